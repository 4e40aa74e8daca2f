package segment

import "testing"

// TestRecoverScansNothingThatWasSynced: also where there is no entry in the index yet.
func TestRecoverScansNothingThatWasSynced(t *testing.T) {
	for _, interval := range []int{1, 1 << 20} {
		mem := newMem(t)
		o := options(mem)
		o.IndexIntervalBytes = interval
		s := create(t, o, 10)
		for i := range 3 {
			add(t, s, batch(int64(i), "v"))
			if i == 2 {
				break // this one is not synced
			}
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		s, err := Open(o, 10)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := s.Recover(t.Context(), true); err != nil || r.Batches != 1 || s.NextOffset() != 13 {
			t.Errorf("interval %d: %+v, %v, next offset %d", interval, r, err, s.NextOffset())
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if s, err = Open(o, 10); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Recover(t.Context(), false); err != nil || r.Batches != 0 {
			t.Errorf("interval %d, all is synced: %+v, %v", interval, r, err)
		}
		s.Close()
	}
}
