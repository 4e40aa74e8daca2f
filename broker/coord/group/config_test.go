package group

import (
	"errors"
	"testing"
	"time"
)

func TestConfigure(t *testing.T) {
	tests := []struct {
		name   string
		values map[string]string
		want   Options
		fails  bool
	}{
		{"nothing", nil, Options{}, false},
		{"all", map[string]string{
			ConfigConsumerInterval: "1000", ConfigConsumerSession: "9000", ConfigInitialDelay: "0",
			ConfigMinSession: "1", ConfigMaxSession: "60000",
		}, Options{
			ConsumerHeartbeatInterval: time.Second, ConsumerSessionTimeout: 9 * time.Second,
			MinSessionTimeout: time.Millisecond, MaxSessionTimeout: time.Minute,
		}, false},
		{"unknown", map[string]string{"group.max.size": "1"}, Options{}, true},
		{"no number", map[string]string{ConfigConsumerSession: "9s"}, Options{}, true},
		{"none", map[string]string{ConfigConsumerSession: "0"}, Options{}, true},
		{"negative", map[string]string{ConfigInitialDelay: "-1"}, Options{}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var o Options
			err := o.Configure(test.values)
			if errors.Is(err, ErrInvalidConfig) != test.fails || !test.fails && (err != nil || o != test.want) {
				t.Errorf("options %+v, %v", o, err)
			}
		})
	}
}

func TestSettingsThatContradict(t *testing.T) {
	for _, o := range []Options{
		{ConsumerHeartbeatInterval: time.Minute},
		{ConsumerSessionTimeout: time.Second},
		{MaxSessionTimeout: time.Second},
	} {
		if _, err := open(t.Context(), o, newMemJournal(1)); !errors.Is(err, ErrInvalidConfig) {
			t.Errorf("opened with %+v: %v", o, err)
		}
	}
}
