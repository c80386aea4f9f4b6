package symbol

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// opened is a regular file of a process, open for one round.
type opened struct {
	*os.File
	stat unix.Stat_t
}

// regular opens a path without waiting and without following what is no regular
// file into a device.
func regular(dir int, path string, how uint64) (*opened, error) {
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: how})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("look at %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("open %s: not a regular file", path)
	}
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &opened{f, st}, nil
}

// inRoot opens an absolute path as the process sees it. Links in it cannot lead
// out of the process's root.
func (s *Symboliser) inRoot(pid uint32, path string) (*opened, error) {
	root, err := unix.Open(s.path(pid, "root"), unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the root of process %d: %w", pid, err)
	}
	defer unix.Close(root)
	return regular(root, path, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

// openMapped opens what a process maps. map_files leads to the very file, even if
// it was deleted, but wants CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE.
func (s *Symboliser) openMapped(pid uint32, m *mapping) (*opened, error) {
	link := s.path(pid, fmt.Sprintf("map_files/%x-%x", m.start, m.end))
	f, err := regular(unix.AT_FDCWD, link, 0)
	if err == nil {
		return f, nil
	}
	if f, err = s.inRoot(pid, m.path); err != nil {
		// The process may be gone; its file mostly is not.
		if f, err = regular(unix.AT_FDCWD, m.path, unix.RESOLVE_NO_MAGICLINKS); err != nil {
			return nil, err
		}
		if unix.Major(f.stat.Dev) != m.major || unix.Minor(f.stat.Dev) != m.minor {
			f.Close()
			return nil, fmt.Errorf("open %s: another file has the name now", m.path)
		}
	}
	if f.stat.Ino != m.inode {
		f.Close()
		return nil, fmt.Errorf("open %s: another file has the name now", m.path)
	}
	return f, nil
}

// openDebug opens the separate debug file of im, if there is one that fits.
func (s *Symboliser) openDebug(pid uint32, path string, im *image) (*opened, *image) {
	fits := func(name string, want func(*image) bool) (*opened, *image) {
		for _, open := range []func() (*opened, error){
			func() (*opened, error) { return s.inRoot(pid, name) },
			func() (*opened, error) { return regular(unix.AT_FDCWD, name, unix.RESOLVE_NO_MAGICLINKS) },
		} {
			f, err := open()
			if err != nil {
				continue
			}
			if d, err := readImage(f, f.stat.Size); err == nil && want(d) {
				return f, d
			}
			f.Close()
		}
		return nil, nil
	}
	const debug = "/usr/lib/debug"
	if id := im.buildID; len(id) > 2 {
		f, d := fits(debug+"/.build-id/"+id[:2]+"/"+id[2:]+".debug", func(d *image) bool { return d.buildID == id })
		if f != nil {
			return f, d
		}
	}
	name, sum, ok := im.debugLink()
	if !ok || !filepath.IsAbs(path) {
		return nil, nil
	}
	dir := filepath.Dir(path)
	for _, name := range []string{filepath.Join(dir, name), filepath.Join(dir, ".debug", name), filepath.Join(debug, dir, name)} {
		if name == path {
			continue
		}
		f, d := fits(name, func(d *image) bool {
			if im.buildID != "" && d.buildID != "" {
				return d.buildID == im.buildID
			}
			got, err := d.checksum()
			return err == nil && got == sum
		})
		if f != nil {
			return f, d
		}
	}
	return nil, nil
}

// readAtMost reads a file of /proc, whose size is not known beforehand.
func readAtMost(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
