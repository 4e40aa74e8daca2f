package group

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The settings of a broker's groups that can be given by Kafka's names.
const (
	ConfigConsumerInterval = "group.consumer.heartbeat.interval.ms"
	ConfigConsumerSession  = "group.consumer.session.timeout.ms"
	ConfigInitialDelay     = "group.initial.rebalance.delay.ms"
	ConfigMaxSession       = "group.max.session.timeout.ms"
	ConfigMinSession       = "group.min.session.timeout.ms"
	ConfigMigration        = "group.consumer.migration.policy"
)

// ErrInvalidConfig says that there is no such setting, or that it cannot have the value.
var ErrInvalidConfig = errors.New("invalid group setting")

// Configure takes settings by Kafka's names; all but the policy are times in milliseconds.
func (o *Options) Configure(values map[string]string) error {
	settings := map[string]*time.Duration{
		ConfigConsumerInterval: &o.ConsumerHeartbeatInterval,
		ConfigConsumerSession:  &o.ConsumerSessionTimeout,
		ConfigInitialDelay:     &o.InitialRebalanceDelay,
		ConfigMaxSession:       &o.MaxSessionTimeout,
		ConfigMinSession:       &o.MinSessionTimeout,
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if name == ConfigMigration {
			o.Migration = MigrationPolicy(values[name])
			continue
		}
		setting := settings[name]
		if setting == nil {
			return fmt.Errorf("%w: there is no %q, there are %s, %s", ErrInvalidConfig, name, ConfigMigration, strings.Join(slices.Sorted(maps.Keys(settings)), ", "))
		}
		ms, err := strconv.ParseInt(values[name], 10, 32)
		if err != nil || ms < 0 || ms == 0 && name != ConfigInitialDelay {
			return fmt.Errorf("%w: %s is %q, want milliseconds above 0", ErrInvalidConfig, name, values[name])
		}
		*setting = time.Duration(ms) * time.Millisecond
	}
	return nil
}

// checkSettings refuses settings under which no member could live.
func checkSettings(c *Coordinator) error {
	if c.consumerSession <= c.consumerInterval {
		return fmt.Errorf("%w: %s of %v is not above %s of %v", ErrInvalidConfig, ConfigConsumerSession, c.consumerSession, ConfigConsumerInterval, c.consumerInterval)
	}
	if !c.migration.known() {
		return fmt.Errorf("%w: %s is %q, want %s, %s, %s or %s", ErrInvalidConfig, ConfigMigration, c.migration, MigrateBoth, MigrateUp, MigrateDown, MigrateNot)
	}
	if c.maxSession < c.minSession {
		return fmt.Errorf("%w: %s of %v is below %s of %v", ErrInvalidConfig, ConfigMaxSession, c.maxSession, ConfigMinSession, c.minSession)
	}
	return nil
}
