package crashtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// sectorBytes is what a disk writes at once or not at all.
const sectorBytes = 512

// makeExt4 puts an empty file system into an image. What the kernel would do
// lazily in the background is done now, so that it is not part of a record.
func makeExt4(image string, sizeBytes int64) error {
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(sizeBytes), f.Close()); err != nil {
		return err
	}
	out, err := exec.Command("mkfs.ext4", "-q", "-F", "-b", "4096", "-N", "8192", "-J", "size=4",
		"-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", image).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return nil
}

// mounted is an ext4 over a loop device over a file. The kernel frees the
// device with its last user, however that ends.
type mounted struct{ dir string }

// mountExt4 mounts the file system in an image, which replays its journal.
func mountExt4(image, dir string) (mounted, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return mounted{}, err
	}
	device, err := loopDevice(image)
	if err != nil {
		return mounted{}, err
	}
	defer device.Close() // the mount has it now, or nobody
	if err := unix.Mount(device.Name(), dir, "ext4", unix.MS_NOATIME, ""); err != nil {
		return mounted{}, fmt.Errorf("mount %s: %w", device.Name(), err)
	}
	return mounted{dir}, nil
}

func (m mounted) unmount() error {
	if err := unix.Unmount(m.dir, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", m.dir, errors.Join(err, unix.Unmount(m.dir, unix.MNT_DETACH)))
	}
	return nil
}

// loopDevice returns a loop device over a file; it is free again when nobody has it open.
func loopDevice(image string) (*os.File, error) {
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the device has it
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range 100 { // others look for a free one too
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("no loop device is free: %w", err)
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd()), Size: sectorBytes,
			Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("set up %s over %s: %w", device.Name(), image, err)
		}
	}
	return nil, errors.New("no loop device is free")
}

// missingForMounts says what this machine lacks, "" if nothing.
func missingForMounts() string {
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root")
	}
	for _, device := range []string{"/dev/fuse", "/dev/loop-control"} {
		f, err := os.OpenFile(device, os.O_RDWR, 0)
		if err != nil {
			missing = append(missing, device)
			continue
		}
		f.Close()
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		missing = append(missing, "mkfs.ext4")
	}
	return strings.Join(missing, ", ")
}
