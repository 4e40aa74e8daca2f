package segment

import (
	"errors"
	"io/fs"
)

// eachFile calls f with the name of each file of a segment, the indexes
// first: a log without its indexes is whole, indexes without their log are not.
func eachFile(base int64, f func(name string) error) error {
	for _, suffix := range []string{TimeIndexSuffix, IndexSuffix, LogSuffix} {
		if err := f(FileName(base, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
