package topic

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/meta"
	"github.com/millstream-io/millstream/broker/producer"
	"golang.org/x/sync/errgroup"
)

// maxPartitions bounds one topic: each partition is a directory with open files.
const maxPartitions = 10_000

// Defaults of Options.
const (
	defaultMaxPartitions = 50_000
	defaultMaxProducers  = 500_000
)

// Topics are the topics of a broker.
type Topics struct {
	o       Options
	logger  *slog.Logger
	layout  layout
	meta    *meta.Store
	configs *configTable
	checker *checker
	watch   waiters
	cleaner janitor

	producers *producer.Room // of all partitions

	changes sync.Mutex // one change of the set of topics at a time; taken before mu

	mu     sync.RWMutex
	closed bool
	byName map[string]*liveTopic
	byID   map[ID]*liveTopic
}

// liveTopic is a topic in service. It is replaced as a whole when it changes.
type liveTopic struct {
	info       Info
	partitions []*Partition
}

// Open opens all topics of o.Dir, recovering their logs in parallel. The directory belongs to the caller (see Options).
func Open(ctx context.Context, o Options) (*Topics, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.DefaultPartitions <= 0 {
		o.DefaultPartitions = 1
	}
	o.MaxPartitions = cmp.Or(o.MaxPartitions, defaultMaxPartitions)
	configs, err := newConfigTable(o.Defaults)
	if err != nil {
		return nil, err
	}
	t := &Topics{o: o, logger: o.Logger, layout: layout{fs: o.FS, dir: o.Dir, logger: o.Logger}, configs: configs, checker: newChecker(), producers: producer.NewRoom(cmp.Or(o.MaxProducers, defaultMaxProducers)),
		byName: make(map[string]*liveTopic), byID: make(map[ID]*liveTopic)}
	clean, err := t.layout.takeCleanMark()
	if err != nil {
		return nil, err
	}
	if t.meta, err = meta.Open(ctx, meta.Options{FS: o.FS, Dir: o.Dir, Logger: o.Logger, Reserve: o.Reserve}); err != nil {
		return nil, err
	}
	if err := t.load(ctx, clean); err != nil {
		return nil, errors.Join(err, t.closeLogs(context.WithoutCancel(ctx)))
	}
	t.cleaner.start(t)
	return t, nil
}

// load opens what the metadata names and finishes interrupted deletions.
func (t *Topics) load(ctx context.Context, clean bool) error {
	for _, m := range t.meta.Topics() {
		if m.Deleting {
			if err := t.finishDeletion(ctx, m); err != nil {
				return err
			}
			continue
		}
		if err := t.configs.validate(m.Configs); err != nil {
			return fmt.Errorf("topic %q: %w", m.Name, err)
		}
		lt := &liveTopic{info: infoOf(m), partitions: make([]*Partition, m.Partitions)}
		t.byName[m.Name], t.byID[m.ID] = lt, lt
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4 * runtime.GOMAXPROCS(0))
	for _, lt := range t.byName {
		s := t.configs.settings(lt.info.Configs)
		for i := range lt.partitions {
			g.Go(func() error {
				p, err := t.openPartition(ctx, lt.info, int32(i), s, clean)
				if errors.Is(err, commitlog.ErrCorrupt) {
					// One damaged log must not keep the others from being served.
					t.logger.Error("partition is offline: its log is damaged", "topic", lt.info.Name, "partition", i, "error", err)
					p, err = &Partition{topic: lt.info.Name, topicID: lt.info.ID, index: int32(i), damage: err}, nil
				}
				lt.partitions[i] = p
				return err
			})
		}
	}
	return g.Wait()
}

func infoOf(m meta.Topic) Info {
	return Info{ID: m.ID, Name: m.Name, Partitions: m.Partitions, Configs: m.Configs, Internal: strings.HasPrefix(m.Name, "__")}
}

func metaOf(i Info) meta.Topic {
	return meta.Topic{Name: i.Name, ID: i.ID, Partitions: i.Partitions, Configs: i.Configs}
}

// Create makes a topic durable and ready. partitions <= 0 means the default.
func (t *Topics) Create(ctx context.Context, name string, partitions int, configs map[string]string) (Info, error) {
	t.changes.Lock()
	defer t.changes.Unlock()
	if partitions <= 0 {
		partitions = t.o.DefaultPartitions
	}
	if err := t.Validate(name, partitions, configs); err != nil {
		return Info{}, err
	}
	m := meta.Topic{Name: name, ID: newID(), Partitions: partitions, Configs: maps.Clone(configs)}
	if err := t.layout.setAside(name, 0, partitions); err != nil {
		return Info{}, err
	}
	if err := t.meta.PutTopic(ctx, m); err != nil {
		return Info{}, fmt.Errorf("create topic %q: %w", name, err)
	}
	lt := &liveTopic{info: infoOf(m)}
	var err error
	if lt.partitions, err = t.openNew(ctx, lt.info, 0); err != nil {
		m.Deleting = true
		undo := t.meta.PutTopic(ctx, m)
		if undo == nil {
			undo = t.finishDeletion(ctx, m)
		}
		return Info{}, errors.Join(fmt.Errorf("create topic %q: %w", name, err), undo)
	}
	t.publish(lt)
	return lt.info, nil
}

// Validate reports what Create would refuse, without creating anything.
func (t *Topics) Validate(name string, partitions int, configs map[string]string) error {
	if err := ValidateName(name); err != nil {
		return err
	}
	if partitions > maxPartitions {
		return fmt.Errorf("%w: %d, at most %d", ErrInvalidPartition, partitions, maxPartitions)
	}
	if err := t.configs.validate(configs); err != nil {
		return err
	}
	if name == meta.LogName {
		return fmt.Errorf("%w: %q is the broker's own", ErrInvalidName, name)
	}
	all := 0
	for _, m := range t.meta.Topics() {
		all += m.Partitions
		switch {
		case m.Name == name && m.Deleting:
			return fmt.Errorf("%w: %q is being deleted, its last files go when the broker starts again", ErrExists, name)
		case m.Name == name:
			return fmt.Errorf("%w: %q", ErrExists, name)
		case metricName(m.Name) == metricName(name):
			return fmt.Errorf("%w: %q differs from topic %q only in '.' and '_'", ErrInvalidName, name, m.Name)
		}
	}
	return checkRoom(all, partitions, t.o.MaxPartitions)
}

// checkRoom refuses more partitions than all topics together may have.
func checkRoom(there, more, most int) error {
	if there+more > most {
		return fmt.Errorf("%w: %d more, the broker has %d and at most %d; delete topics that nobody needs", ErrTooManyPartitions, more, there, most)
	}
	return nil
}

// ValidateConfigs reports whether SetConfigs would take configs.
func (t *Topics) ValidateConfigs(configs map[string]string) error { return t.configs.validate(configs) }

// ValidateConfigName reports whether there is a topic config of that name.
func (t *Topics) ValidateConfigName(name string) error {
	if _, ok := t.configs.defs[name]; !ok {
		return fmt.Errorf("%w: unknown topic config %q", ErrInvalidConfig, name)
	}
	return nil
}

// metricName is the name in the tools that cannot tell '.' from '_'.
func metricName(name string) string { return strings.ReplaceAll(name, ".", "_") }

func newID() ID {
	var id ID
	rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // UUID version 4
	return id
}

// openNew opens the logs of partitions from first on; on an error it removes them again.
func (t *Topics) openNew(ctx context.Context, info Info, first int) ([]*Partition, error) {
	s := t.configs.settings(info.Configs)
	out := make([]*Partition, 0, info.Partitions-first)
	for i := first; i < info.Partitions; i++ {
		p, err := t.openPartition(ctx, info, int32(i), s, false)
		if err != nil {
			for _, p := range out {
				err = errors.Join(err, p.remove())
			}
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// finishDeletion removes what is left of a deleted topic, then its metadata.
func (t *Topics) finishDeletion(ctx context.Context, m meta.Topic) error {
	if err := t.layout.remove(m.Name, m.Partitions); err != nil {
		return err
	}
	return t.meta.DropTopic(ctx, m.Name)
}

func (t *Topics) publish(lt *liveTopic) {
	t.mu.Lock()
	t.byName[lt.info.Name], t.byID[lt.info.ID] = lt, lt
	t.mu.Unlock()
	t.watch.wake()
}

// Delete removes a topic and its data. Readers that wait are woken and find it gone.
func (t *Topics) Delete(ctx context.Context, name string) error {
	t.changes.Lock()
	defer t.changes.Unlock()
	lt, err := t.live(name)
	if err != nil {
		return err
	}
	m := metaOf(lt.info)
	m.Deleting = true
	if err := t.meta.PutTopic(ctx, m); err != nil {
		return fmt.Errorf("delete topic %q: %w", name, err)
	}
	t.mu.Lock()
	delete(t.byName, name)
	delete(t.byID, lt.info.ID)
	t.mu.Unlock()
	t.watch.wake()
	for _, p := range lt.partitions {
		if err := p.remove(); err != nil {
			return fmt.Errorf("delete topic %q: %w", name, err)
		}
	}
	return t.finishDeletion(ctx, m)
}

// AddPartitions grows a topic to total partitions.
func (t *Topics) AddPartitions(ctx context.Context, name string, total int) error {
	t.changes.Lock()
	defer t.changes.Unlock()
	lt, err := t.live(name)
	if err != nil {
		return err
	}
	if err := t.validateGrowth(lt, total); err != nil {
		return err
	}
	first := lt.info.Partitions
	if err := t.layout.setAside(name, first, total); err != nil {
		return err
	}
	grown := &liveTopic{info: lt.info}
	grown.info.Partitions = total
	added, err := t.openNew(ctx, grown.info, first)
	if err != nil {
		return fmt.Errorf("add partitions to topic %q: %w", name, err)
	}
	if err := t.meta.PutTopic(ctx, metaOf(grown.info)); err != nil {
		for _, p := range added {
			err = errors.Join(err, p.remove())
		}
		return fmt.Errorf("add partitions to topic %q: %w", name, err)
	}
	grown.partitions = slices.Concat(lt.partitions, added)
	t.publish(grown)
	return nil
}

// ValidateGrowth reports whether AddPartitions would be refused.
func (t *Topics) ValidateGrowth(name string, total int) error {
	lt, err := t.live(name)
	if err != nil {
		return err
	}
	return t.validateGrowth(lt, total)
}

func (t *Topics) validateGrowth(lt *liveTopic, total int) error {
	if total <= lt.info.Partitions {
		return fmt.Errorf("%w: topic %q has %d already, asked for %d", ErrInvalidPartition, lt.info.Name, lt.info.Partitions, total)
	}
	if total > maxPartitions {
		return fmt.Errorf("%w: %d, at most %d", ErrInvalidPartition, total, maxPartitions)
	}
	all := 0
	for _, m := range t.meta.Topics() {
		all += m.Partitions
	}
	return checkRoom(all, total-lt.info.Partitions, t.o.MaxPartitions)
}

// SetConfigs replaces the configs that are set for a topic; what is absent goes back to the broker's default.
func (t *Topics) SetConfigs(ctx context.Context, name string, configs map[string]string) error {
	t.changes.Lock()
	defer t.changes.Unlock()
	lt, err := t.live(name)
	if err != nil {
		return err
	}
	if err := t.configs.validate(configs); err != nil {
		return err
	}
	changed := &liveTopic{info: lt.info, partitions: lt.partitions}
	changed.info.Configs = maps.Clone(configs)
	if err := t.meta.PutTopic(ctx, metaOf(changed.info)); err != nil {
		return fmt.Errorf("configure topic %q: %w", name, err)
	}
	s := t.configs.settings(changed.info.Configs)
	for _, p := range changed.partitions {
		p.configure(s)
	}
	t.publish(changed)
	return nil
}

func (t *Topics) live(name string) (*liveTopic, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.closed {
		return nil, fmt.Errorf("topics: %w", commitlog.ErrClosed)
	}
	lt, ok := t.byName[name]
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrUnknownTopic, name)
	}
	return lt, nil
}

// Lookup finds a topic by name. The configs of the answer must not be changed.
func (t *Topics) Lookup(name string) (Info, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	lt, ok := t.byName[name]
	if !ok {
		return Info{}, false
	}
	return lt.info, true
}

// LookupID finds a topic by id.
func (t *Topics) LookupID(id ID) (Info, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	lt, ok := t.byID[id]
	if !ok {
		return Info{}, false
	}
	return lt.info, true
}

// List returns all topics, sorted by name.
func (t *Topics) List() []Info {
	t.mu.RLock()
	out := make([]Info, 0, len(t.byName))
	for _, lt := range t.byName {
		out = append(out, lt.info)
	}
	t.mu.RUnlock()
	slices.SortFunc(out, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Partition finds a partition; ErrUnknownTopic or ErrUnknownPartition if there
// is none, commitlog.ErrCorrupt if its log was found damaged.
func (t *Topics) Partition(name string, index int32) (*Partition, error) {
	lt, err := t.live(name)
	if err != nil {
		return nil, err
	}
	if index < 0 || int(index) >= len(lt.partitions) {
		return nil, fmt.Errorf("%w: topic %q has partitions 0 to %d, not %d", ErrUnknownPartition, name, len(lt.partitions)-1, index)
	}
	p := lt.partitions[index]
	if p.damage != nil {
		return nil, p.damage
	}
	return p, nil
}

// Watch is told (non-blocking send) when topics are created, deleted, configured or grow, until cancel.
func (t *Topics) Watch(ch chan<- struct{}) (cancel func()) { return t.watch.add(ch) }

// ConfigValue returns the effective value of a config: the topic's, else the broker's default.
func (t *Topics) ConfigValue(name, key string) (value string, fromTopic bool) {
	info, _ := t.Lookup(name)
	return t.configs.value(info.Configs, key)
}

// DefaultPartitions is the partition count of a topic created without one.
func (t *Topics) DefaultPartitions() int { return t.o.DefaultPartitions }

// Metadata is the broker's own log, which also gives out producer ids.
func (t *Topics) Metadata() *meta.Store { return t.meta }

// Close stops the cleaner, makes everything durable and, if all went well, marks the stop as clean.
func (t *Topics) Close(ctx context.Context) error {
	t.changes.Lock()
	defer t.changes.Unlock()
	t.mu.Lock()
	wasClosed := t.closed
	t.closed = true
	t.mu.Unlock()
	if wasClosed {
		return nil
	}
	t.cleaner.stop()
	t.watch.wake()
	if err := t.closeLogs(ctx); err != nil {
		return err
	}
	return t.layout.setCleanMark()
}

func (t *Topics) closeLogs(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(4 * runtime.GOMAXPROCS(0))
	for _, lt := range t.byName {
		for _, p := range lt.partitions {
			if p != nil && p.damage == nil {
				g.Go(func() error { return p.close(ctx) })
			}
		}
	}
	return errors.Join(g.Wait(), t.meta.Close(ctx))
}

// Disk returns the directory of the logs and the bytes left on its disk.
func (t *Topics) Disk() (dir string, freeBytes int64, err error) {
	freeBytes, err = t.o.FS.FreeBytes(t.o.Dir)
	return t.o.Dir, freeBytes, err
}
