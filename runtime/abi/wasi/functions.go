package wasi

import (
	"encoding/binary"

	"github.com/tetratelabs/wazero/api"
)

// errno is an error number of WASI preview 1.
type errno uint32

const (
	success       errno = 0
	errBadFile    errno = 8
	errFault      errno = 21
	errInvalid    errno = 28
	errNotSup     errno = 58
	errSeekPipe   errno = 70
	errNotCapable errno = 76
)

// signatures are the parameters of every function of the snapshot: i = i32, I = i64.
var signatures = map[string]string{
	"args_get": "ii", "args_sizes_get": "ii", "environ_get": "ii", "environ_sizes_get": "ii",
	"clock_res_get": "ii", "clock_time_get": "iIi",
	"fd_advise": "iIIi", "fd_allocate": "iII", "fd_close": "i", "fd_datasync": "i",
	"fd_fdstat_get": "ii", "fd_fdstat_set_flags": "ii", "fd_fdstat_set_rights": "iII",
	"fd_filestat_get": "ii", "fd_filestat_set_size": "iI", "fd_filestat_set_times": "iIIi",
	"fd_pread": "iiiIi", "fd_prestat_get": "ii", "fd_prestat_dir_name": "iii", "fd_pwrite": "iiiIi",
	"fd_read": "iiii", "fd_readdir": "iiiIi", "fd_renumber": "ii", "fd_seek": "iIii", "fd_sync": "i",
	"fd_tell": "ii", "fd_write": "iiii",
	"path_create_directory": "iii", "path_filestat_get": "iiiii", "path_filestat_set_times": "iiiiIIi",
	"path_link": "iiiiiii", "path_open": "iiiiiIIii", "path_readlink": "iiiiii",
	"path_remove_directory": "iii", "path_rename": "iiiiii", "path_symlink": "iiiii", "path_unlink_file": "iii",
	"poll_oneoff": "iiii", "proc_exit": "i", "proc_raise": "i", "random_get": "ii", "sched_yield": "",
	"sock_accept": "iii", "sock_recv": "iiiiii", "sock_send": "iiiii", "sock_shutdown": "ii",
}

// refusals are the answers of functions that are not given, where "bad file descriptor" is not the best one.
var refusals = map[string]errno{
	"path_create_directory": errNotCapable, "path_filestat_get": errNotCapable, "path_filestat_set_times": errNotCapable,
	"path_link": errNotCapable, "path_open": errNotCapable, "path_readlink": errNotCapable,
	"path_remove_directory": errNotCapable, "path_rename": errNotCapable, "path_symlink": errNotCapable,
	"path_unlink_file": errNotCapable, "proc_raise": errNotSup,
}

// functions are those that do something.
func functions() map[string]function {
	return map[string]function{
		"args_get":            nothing,
		"args_sizes_get":      zeroSizes,
		"environ_get":         nothing,
		"environ_sizes_get":   zeroSizes,
		"clock_res_get":       clockRes,
		"clock_time_get":      clockTime,
		"fd_close":            standardFile,
		"fd_fdstat_get":       fdstatGet,
		"fd_fdstat_set_flags": standardFile,
		"fd_read":             fdRead,
		"fd_seek":             fdSeek,
		"fd_write":            fdWrite,
		"poll_oneoff":         pollOneoff,
		"proc_exit":           procExit,
		"random_get":          randomGet,
		"sched_yield":         nothing,
	}
}

func nothing(*System, api.Memory, []uint64) errno { return success }

func zeroSizes(_ *System, m api.Memory, stack []uint64) errno {
	if !m.WriteUint32Le(uint32(stack[0]), 0) || !m.WriteUint32Le(uint32(stack[1]), 0) {
		return errFault
	}
	return success
}

// Clocks of the snapshot; the CPU time clocks are not given.
const (
	clockRealtime  = 0
	clockMonotonic = 1
)

const resolution = 1000 // ns

func clockRes(_ *System, m api.Memory, stack []uint64) errno {
	if uint32(stack[0]) > clockMonotonic {
		return errInvalid
	}
	if !m.WriteUint64Le(uint32(stack[1]), resolution) {
		return errFault
	}
	return success
}

// clockTime gives the batch's time. The monotonic clock moves on by its
// resolution with each reading, so that a guest that waits in a loop for time
// to pass comes to an end.
func clockTime(s *System, m api.Memory, stack []uint64) errno {
	var t int64
	switch uint32(stack[0]) {
	case clockRealtime:
		t = s.wall
	case clockMonotonic:
		s.monotonic += resolution
		t = s.monotonic
	default:
		return errInvalid
	}
	if !m.WriteUint64Le(uint32(stack[2]), uint64(t)) {
		return errFault
	}
	return success
}

func isStandard(fd uint64) bool { return uint32(fd) <= 2 }

func standardFile(_ *System, _ api.Memory, stack []uint64) errno {
	if !isStandard(stack[0]) {
		return errBadFile
	}
	return success
}

// fdstatGet says that the standard files are character devices without rights.
func fdstatGet(_ *System, m api.Memory, stack []uint64) errno {
	if !isStandard(stack[0]) {
		return errBadFile
	}
	const characterDevice = 2
	stat := [24]byte{0: characterDevice}
	if !m.Write(uint32(stack[1]), stat[:]) {
		return errFault
	}
	return success
}

// fdRead finds standard input at its end.
func fdRead(_ *System, m api.Memory, stack []uint64) errno {
	if uint32(stack[0]) != 0 {
		return errBadFile
	}
	if !m.WriteUint32Le(uint32(stack[3]), 0) {
		return errFault
	}
	return success
}

func fdSeek(_ *System, _ api.Memory, stack []uint64) errno {
	if !isStandard(stack[0]) {
		return errBadFile
	}
	return errSeekPipe
}

func fdWrite(s *System, m api.Memory, stack []uint64) errno {
	fd, iovs, count := uint32(stack[0]), uint32(stack[1]), uint32(stack[2])
	if fd != 1 && fd != 2 {
		return errBadFile
	}
	if count > 1024 {
		return errInvalid
	}
	vector, ok := m.Read(iovs, count*8)
	if !ok {
		return errFault
	}
	var written uint32
	for ; len(vector) > 0; vector = vector[8:] {
		p, ok := m.Read(binary.LittleEndian.Uint32(vector), binary.LittleEndian.Uint32(vector[4:]))
		if !ok {
			return errFault
		}
		s.Charge(int64(len(p)))
		s.Write(int(fd), p)
		written += uint32(len(p))
	}
	if !m.WriteUint32Le(uint32(stack[3]), written) {
		return errFault
	}
	return success
}

// pollOneoff answers every subscription at once. Waiting for a clock moves the
// guest's clocks on instead of stopping the host.
func pollOneoff(s *System, m api.Memory, stack []uint64) errno {
	const subscriptionBytes, eventBytes, maxSubscriptions = 48, 32, 1024
	in, out, count := uint32(stack[0]), uint32(stack[1]), uint32(stack[2])
	if count == 0 || count > maxSubscriptions {
		return errInvalid
	}
	subscriptions, ok1 := m.Read(in, count*subscriptionBytes)
	events, ok2 := m.Read(out, count*eventBytes)
	if !ok1 || !ok2 {
		return errFault
	}
	s.Charge(int64(count) * callFuel)
	for ; len(subscriptions) > 0; subscriptions, events = subscriptions[subscriptionBytes:], events[eventBytes:] {
		le := binary.LittleEndian
		userData, tag := le.Uint64(subscriptions), subscriptions[8]
		code := success
		switch tag {
		case 0: // clock
			s.sleep(le.Uint32(subscriptions[16:]), le.Uint64(subscriptions[24:]), le.Uint16(subscriptions[40:])&1 != 0)
		case 1, 2: // fd_read, fd_write
			code = errNotSup
		default:
			return errInvalid
		}
		clear(events[:eventBytes])
		le.PutUint64(events, userData)
		le.PutUint16(events[8:], uint16(code))
		events[10] = tag
	}
	if !m.WriteUint32Le(uint32(stack[3]), count) {
		return errFault
	}
	return success
}

// sleep moves both clocks on to the end of a wait.
func (s *System) sleep(clock uint32, timeout uint64, absolute bool) {
	const longest = 365 * 24 * 3600 * 1_000_000_000
	wait := int64(min(timeout, longest))
	if absolute {
		now := s.monotonic
		if clock == clockRealtime {
			now = s.wall
		}
		// The difference wraps only for times no clock of ours shows.
		wait = min(int64(timeout)-now, longest)
	}
	if wait > 0 {
		s.wall += wait
		s.monotonic += wait
	}
}

func procExit(_ *System, _ api.Memory, stack []uint64) errno {
	panic(&ExitError{Code: uint32(stack[0])})
}

func randomGet(s *System, m api.Memory, stack []uint64) errno {
	p, ok := m.Read(uint32(stack[0]), uint32(stack[1]))
	if !ok {
		return errFault
	}
	s.Charge(int64(len(p)))
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, s.random.Uint64())
		p = p[8:]
	}
	if len(p) > 0 {
		var last [8]byte
		binary.LittleEndian.PutUint64(last[:], s.random.Uint64())
		copy(p, last[:])
	}
	return success
}
