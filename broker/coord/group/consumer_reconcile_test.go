package group

import (
	"testing"

	"github.com/millstream-io/millstream/broker/topic"
)

// TestReconcile is the step of a member towards a target assignment of epoch 9, as a table. All partitions are of one topic.
func TestReconcile(t *testing.T) {
	of := func(list ...int32) Partitions {
		if list == nil {
			return Partitions{}
		}
		return Partitions{id(1): list}
	}
	type is = memberAssignment
	tests := []struct {
		name   string
		is     is
		target Partitions
		owned  Partitions // nil: nothing said
		taken  []int32    // by others
		then   is
	}{
		{"is there", is{9, 8, memberStable, of(1, 2), nil}, of(1, 2), nil, nil,
			is{9, 8, memberStable, of(1, 2), nil}},
		{"joins", is{0, 0, memberStable, nil, nil}, of(1, 2), of(), nil,
			is{9, 0, memberStable, of(1, 2), nil}},
		{"joins and has to wait", is{0, 0, memberStable, nil, nil}, of(1, 2), of(), []int32{1, 2},
			is{9, 0, memberUnreleased, of(), nil}},
		{"gets what is free", is{0, 0, memberStable, nil, nil}, of(1, 2), of(), []int32{1},
			is{9, 0, memberUnreleased, of(2), nil}},
		{"gets the rest", is{9, 0, memberUnreleased, of(2), nil}, of(1, 2), nil, nil,
			is{9, 0, memberStable, of(1, 2), nil}},
		{"still waits", is{9, 0, memberUnreleased, of(2), nil}, of(1, 2), nil, []int32{1},
			is{9, 0, memberUnreleased, of(2), nil}},
		{"same again", is{8, 7, memberStable, of(1), nil}, of(1), nil, nil,
			is{9, 8, memberStable, of(1), nil}},
		{"has to give up", is{8, 7, memberStable, of(1, 2), nil}, of(2), nil, nil,
			is{8, 7, memberUnrevoked, of(2), of(1)}},
		{"gives up before it gets", is{8, 7, memberStable, of(1), nil}, of(3), of(1), nil,
			is{8, 7, memberUnrevoked, of(), of(1)}},
		{"has given up already", is{8, 7, memberStable, of(1, 2), nil}, of(2, 3), of(2), nil,
			is{9, 8, memberStable, of(2, 3), nil}},
		{"says nothing of what it gave up", is{8, 7, memberUnrevoked, of(2), of(1)}, of(2), nil, nil,
			is{8, 7, memberUnrevoked, of(2), of(1)}},
		{"holds on", is{8, 7, memberUnrevoked, of(2), of(1)}, of(2), of(1, 2), nil,
			is{8, 7, memberUnrevoked, of(2), of(1)}},
		{"has given up", is{8, 7, memberUnrevoked, of(2), of(1)}, of(2), of(2), nil,
			is{9, 8, memberStable, of(2), nil}},
		{"has given up and has to wait", is{8, 7, memberUnrevoked, of(), of(1)}, of(3), of(), []int32{3},
			is{9, 8, memberUnreleased, of(), nil}},
		{"has given up, and the target has moved on", is{6, 5, memberUnrevoked, of(2, 3), of(1)}, of(3), of(2, 3), nil,
			is{7, 6, memberUnrevoked, of(3), of(2)}},
		{"gets back what it gave up", is{6, 5, memberUnrevoked, of(2), of(1)}, of(1, 2), of(2), nil,
			is{9, 6, memberStable, of(1, 2), nil}},
		{"gives up while it waits", is{8, 7, memberUnreleased, of(1, 2), nil}, of(2, 3), nil, []int32{3},
			is{8, 7, memberUnrevoked, of(2), of(1)}},
		{"a static member comes back", is{0, 0, memberStable, of(1, 2), nil}, of(1, 2), of(), nil,
			is{9, 0, memberStable, of(1, 2), nil}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := &consumerMember{memberAssignment: test.is, target: test.target}
			got := m.next(9, test.owned, func(_ topic.ID, p int32) bool {
				for _, taken := range test.taken {
					if p == taken {
						return false
					}
				}
				return true
			})
			if !got.equal(&test.then) {
				t.Errorf("then it is %+v, want %+v", got, test.then)
			}
		})
	}
}
