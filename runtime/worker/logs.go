package worker

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// LogLine is one line of the logs topic, as JSON; the record's key is the
// deployment and its timestamp the line's time in milliseconds.
type LogLine struct {
	Time       time.Time `json:"time"`
	Deployment string    `json:"deployment"`
	Topic      string    `json:"topic,omitempty"` // input topic; empty for events of the whole deployment
	Partition  int32     `json:"partition"`       // input partition; -1 for events of the whole deployment
	Level      string    `json:"level"`           // DEBUG, INFO, WARN, ERROR
	Message    string    `json:"message"`
	// Event tells a line of the runtime (started, stopped, failed) from a guest's.
	Event bool `json:"event,omitempty"`
}

// Bounds of the logs.
const (
	logBufferBytes    = 1 << 20
	logLineOverhead   = 128 // of a buffered line, beside its message
	logFlushInterval  = 50 * time.Millisecond
	logReportInterval = time.Second // between reports of dropped lines
	logBatchBytes     = 256 << 10
	defaultLogLines   = 100 // a second and partition
)

// LogsConfigs are the configs of a logs topic: it forgets by size and age.
func LogsConfigs() map[string]string {
	return map[string]string{
		"cleanup.policy":  "delete",
		"retention.bytes": "67108864",  // 64 MiB
		"retention.ms":    "604800000", // 7 days
		"segment.bytes":   "8388608",   // 8 MiB
	}
}

// Logs writes the log lines of guests and the events of deployments to a topic,
// in batches, behind the back of those who log: Line never blocks. What does
// not fit into its buffer, is over a rate limit or is refused by the log is dropped
// and counted, and the count is reported as one line. Safe for concurrent use.
type Logs struct {
	engine engine.Engine
	topic  string
	logger *slog.Logger
	wake   chan struct{}
	stop   context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	lines    []LogLine
	bytes    int
	dropped  map[string]int // by deployment, since the last report
	reportAt time.Time      // when the present counts are due
}

// NewLogs starts the writer; Close ends it. The topic must exist.
func NewLogs(e engine.Engine, topic string, logger *slog.Logger) *Logs {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Logs{engine: e, topic: topic, logger: logger, wake: make(chan struct{}, 1), stop: cancel, done: make(chan struct{}), dropped: map[string]int{}}
	go l.write(ctx)
	return l
}

// Close writes what is buffered, as long as ctx lasts, and ends the writer.
func (l *Logs) Close(ctx context.Context) error {
	l.stop()
	<-l.done
	return l.flush(ctx, true)
}

// LogSource is where lines come from: a partition of a deployment, or with partition -1 the deployment itself.
type LogSource struct {
	logs       *Logs
	deployment string
	tp         engine.TopicPartition
	perSecond  int

	mu     sync.Mutex
	second int64 // the present one
	count  int   // lines in it
}

// Source returns a source of at most perSecond lines a second; 0 means the default of 100.
func (l *Logs) Source(deployment string, tp engine.TopicPartition, perSecond int) *LogSource {
	if perSecond <= 0 {
		perSecond = defaultLogLines
	}
	return &LogSource{logs: l, deployment: deployment, tp: tp, perSecond: perSecond}
}

// Line takes a line of a guest, or about one of its records.
func (s *LogSource) Line(level slog.Level, message string) {
	now := time.Now()
	if !s.admit(now) {
		s.logs.drop(s.deployment, 1)
		return
	}
	s.logs.put(s.line(now, level, message, false))
}

// Dropped counts lines that never came here because they were over a limit already.
func (s *LogSource) Dropped(n int) {
	if n > 0 {
		s.logs.drop(s.deployment, n)
	}
}

// Event takes an event of the deployment's life; it is not rate-limited.
func (s *LogSource) Event(level slog.Level, message string) {
	s.logs.put(s.line(time.Now(), level, message, true))
}

func (s *LogSource) line(now time.Time, level slog.Level, message string, event bool) LogLine {
	return LogLine{
		Time: now.UTC(), Deployment: s.deployment, Topic: s.tp.Topic, Partition: s.tp.Partition,
		Level: level.String(), Message: message, Event: event,
	}
}

// admit counts lines by the second of the clock.
func (s *LogSource) admit(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if second := now.Unix(); second != s.second {
		s.second, s.count = second, 0
	}
	s.count++
	return s.count <= s.perSecond
}

func (l *Logs) put(line LogLine) {
	size := len(line.Message) + logLineOverhead
	l.mu.Lock()
	full := l.bytes+size > logBufferBytes
	if !full {
		l.lines = append(l.lines, line)
		l.bytes += size
	}
	l.mu.Unlock()
	if full {
		l.drop(line.Deployment, 1)
		return
	}
	l.signal()
}

// drop counts lines; the report follows after logReportInterval, with all that are dropped until then.
func (l *Logs) drop(deployment string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.dropped) == 0 {
		l.reportAt = time.Now().Add(logReportInterval)
		time.AfterFunc(logReportInterval, l.signal)
	}
	l.dropped[deployment] += n
}

func (l *Logs) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// write flushes a little after the first line, so that lines that come together go together.
func (l *Logs) write(ctx context.Context) {
	defer close(l.done)
	var pause backoff
	for {
		select {
		case <-l.wake:
		case <-ctx.Done():
			return
		}
		if !sleep(ctx, logFlushInterval) {
			return
		}
		err := l.flush(ctx, false)
		if err == nil {
			pause.reset()
			continue
		}
		l.logger.Warn("log lines of deployments could not be stored", "topic", l.topic, "error", err)
		if !pause.wait(ctx) {
			return
		}
	}
}

// flush writes what is buffered, and the reports of drops that are due, or all
// of them. What the log refuses is dropped and counted.
func (l *Logs) flush(ctx context.Context, allReports bool) error {
	lines, reports := l.take(allReports)
	for deployment, n := range reports {
		lines = append(lines, LogLine{
			Time: time.Now().UTC(), Deployment: deployment, Partition: -1, Level: slog.LevelWarn.String(), Event: true,
			Message: strconv.Itoa(n) + " log lines were dropped",
		})
	}
	for len(lines) > 0 {
		records, n := encodeLines(lines)
		if err := l.engine.Append(ctx, l.topic, records); err != nil {
			for _, line := range lines[:max(0, len(lines)-len(reports))] {
				l.drop(line.Deployment, 1)
			}
			for deployment, n := range reports {
				l.drop(deployment, n)
			}
			return err
		}
		lines = lines[n:]
	}
	return nil
}

// take empties the buffer, and the counts of dropped lines when their report is due.
func (l *Logs) take(allReports bool) (lines []LogLine, reports map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines = l.lines
	l.lines, l.bytes = nil, 0
	if allReports || !time.Now().Before(l.reportAt) {
		reports, l.dropped = l.dropped, map[string]int{}
	}
	return lines, reports
}

// encodeLines makes records of the first lines, about logBatchBytes of them; n tells how many.
func encodeLines(lines []LogLine) (records []engine.Record, n int) {
	size := 0
	for _, line := range lines {
		if size > logBatchBytes {
			break
		}
		line.Message = strings.ToValidUTF8(strings.TrimRight(line.Message, "\n"), "�")
		value, err := json.Marshal(line)
		if err != nil { // no field of a line can fail to be encoded
			value = nil
		}
		records = append(records, engine.Record{Timestamp: line.Time.UnixMilli(), Key: []byte(line.Deployment), Value: value})
		size += len(value) + logLineOverhead
		n++
	}
	return records, n
}
