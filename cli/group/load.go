package group

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// state is what the coordinator tells of a group, whichever protocol its members speak.
type state struct {
	Name     string   `json:"group"`
	Type     string   `json:"type"` // classic, or consumer (KIP-848)
	State    string   `json:"state"`
	Assignor string   `json:"assignor,omitempty"`
	Epoch    int32    `json:"epoch,omitempty"` // type consumer only
	Members  []member `json:"members"`
}

type member struct {
	ID         string       `json:"member_id"`
	Instance   string       `json:"instance_id,omitempty"` // of a static member
	Client     string       `json:"client_id"`
	Host       string       `json:"host"`
	Epoch      int32        `json:"epoch,omitempty"` // type consumer only
	Topics     []string     `json:"topics"`          // subscribed to
	Assignment []assignment `json:"assignment"`
}

type assignment struct {
	Topic      string  `json:"topic"`
	Partitions []int32 `json:"partitions"`
}

// load describes groups; one that does not exist is not in the answer.
func load(ctx context.Context, client *kadm.Client, names ...string) (map[string]*state, error) {
	out := map[string]*state{}
	if len(names) == 0 {
		return out, nil
	}
	classic, err := client.DescribeGroups(ctx, names...)
	if err != nil {
		return nil, err
	}
	var others []string // not classic, if there are any
	for _, name := range names {
		g := classic[name]
		switch {
		case errors.Is(g.Err, kerr.GroupIDNotFound), g.Err == nil && g.State == "Dead":
			others = append(others, name)
		case g.Err != nil:
			return nil, g.Err
		default:
			out[name] = classicState(&g)
		}
	}
	if len(others) == 0 {
		return out, nil
	}
	consumer, err := client.DescribeConsumerGroups(ctx, others...)
	if errors.Is(err, kerr.UnsupportedVersion) || unknownRequest(err) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	for name, g := range consumer {
		switch {
		case errors.Is(g.Err, kerr.GroupIDNotFound), g.Err == nil && g.State == "Dead":
		case g.Err != nil:
			return nil, g.Err
		default:
			out[name] = consumerState(&g)
		}
	}
	return out, nil
}

// unknownRequest reports whether a broker does not know a kind of request; the client exports no error for that.
func unknownRequest(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "request key is unknown") || strings.Contains(err.Error(), "broker is too old"))
}

func classicState(g *kadm.DescribedGroup) *state {
	s := &state{Name: g.Group, Type: "classic", State: g.State, Assignor: g.Protocol, Members: []member{}}
	for _, m := range g.Members {
		row := member{ID: m.MemberID, Client: m.ClientID, Host: m.ClientHost, Topics: []string{}, Assignment: []assignment{}}
		if m.InstanceID != nil {
			row.Instance = *m.InstanceID
		}
		if join, ok := m.Join.AsConsumer(); ok {
			row.Topics = append(row.Topics, join.Topics...)
		}
		if assigned, ok := m.Assigned.AsConsumer(); ok {
			set := kadm.TopicsSet{}
			for _, t := range assigned.Topics {
				set.Add(t.Topic, t.Partitions...)
			}
			row.Assignment = assignments(set)
		}
		s.Members = append(s.Members, row)
	}
	return s
}

func consumerState(g *kadm.DescribedConsumerGroup) *state {
	s := &state{Name: g.Group, Type: "consumer", State: g.State, Assignor: g.AssignorName, Epoch: g.Epoch, Members: []member{}}
	for _, m := range g.Members {
		row := member{
			ID: m.MemberID, Client: m.ClientID, Host: m.ClientHost, Epoch: m.MemberEpoch,
			Topics: append([]string{}, m.SubscribedTopics...), Assignment: assignments(m.Assignment),
		}
		if m.InstanceID != nil {
			row.Instance = *m.InstanceID
		}
		if m.SubscribedTopicRegex != nil && *m.SubscribedTopicRegex != "" {
			row.Topics = append(row.Topics, "/"+*m.SubscribedTopicRegex+"/")
		}
		s.Members = append(s.Members, row)
	}
	return s
}

func assignments(set kadm.TopicsSet) []assignment {
	out := []assignment{}
	for _, topic := range slices.Sorted(maps.Keys(set)) {
		out = append(out, assignment{Topic: topic, Partitions: slices.Sorted(maps.Keys(set[topic]))})
	}
	return out
}

// partition is how far a group is in one partition.
type partition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed_offset"` // -1: none
	LogStart  int64  `json:"log_start_offset"`
	LogEnd    int64  `json:"log_end_offset"`
	Lag       int64  `json:"lag_records"` // -1: unknown
	Metadata  string `json:"metadata,omitempty"`
	Member    string `json:"member_id,omitempty"`
	Client    string `json:"client_id,omitempty"`
	Problem   string `json:"problem,omitempty"`
}

// progress tells how far groups are: in every partition that one has committed an offset for or is assigned.
func progress(ctx context.Context, client *kadm.Client, groups map[string]*state) (map[string][]partition, error) {
	out := map[string][]partition{}
	if len(groups) == 0 {
		return out, nil
	}
	topics := kadm.TopicsSet{}
	fetched := client.FetchManyOffsets(ctx, slices.Collect(maps.Keys(groups))...)
	for name, g := range groups {
		r := fetched[name]
		if r.Err != nil {
			return nil, r.Err
		}
		rows := map[string]map[int32]*partition{}
		row := func(topic string, p int32) *partition {
			topics.Add(topic, p)
			if rows[topic] == nil {
				rows[topic] = map[int32]*partition{}
			}
			if rows[topic][p] == nil {
				rows[topic][p] = &partition{Topic: topic, Partition: p, Committed: -1}
			}
			return rows[topic][p]
		}
		r.Fetched.Each(func(o kadm.OffsetResponse) {
			if o.Err == nil && o.At >= 0 {
				at := row(o.Topic, o.Partition)
				at.Committed, at.Metadata = o.At, o.Metadata
			}
		})
		for _, m := range g.Members {
			for _, a := range m.Assignment {
				for _, p := range a.Partitions {
					at := row(a.Topic, p)
					at.Member, at.Client = m.ID, m.Client
				}
			}
		}
		for _, topic := range slices.Sorted(maps.Keys(rows)) {
			for _, p := range slices.Sorted(maps.Keys(rows[topic])) {
				out[name] = append(out[name], *rows[topic][p])
			}
		}
	}
	return out, addLag(ctx, client, topics.Topics(), out)
}

// addLag adds where the partitions begin and end.
func addLag(ctx context.Context, client *kadm.Client, topics []string, groups map[string][]partition) error {
	if len(topics) == 0 {
		return nil
	}
	starts, err := client.ListStartOffsets(ctx, topics...)
	if err != nil {
		return err
	}
	ends, err := client.ListEndOffsets(ctx, topics...)
	if err != nil {
		return err
	}
	for _, rows := range groups {
		for i := range rows {
			p := &rows[i]
			start, startOK := starts.Lookup(p.Topic, p.Partition)
			end, endOK := ends.Lookup(p.Topic, p.Partition)
			if err := errors.Join(start.Err, end.Err); err != nil || !startOK || !endOK {
				p.LogStart, p.LogEnd, p.Lag, p.Problem = -1, -1, -1, "does not exist"
				if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
					p.Problem = strings.ReplaceAll(err.Error(), "\n", "; ")
				}
				continue
			}
			p.LogStart, p.LogEnd = start.Offset, end.Offset
			p.Lag = max(0, end.Offset-max(p.Committed, start.Offset))
		}
	}
	return nil
}

// total is the lag in all partitions where it is known.
func total(rows []partition) int64 {
	var n int64
	for _, p := range rows {
		n += max(0, p.Lag)
	}
	return n
}
