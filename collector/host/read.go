package host

import (
	"bytes"
	"errors"
	"io/fs"
	"iter"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile bounds what is read of one file.
const maxFile = 16 << 20

var (
	errNoData  = errors.New("nothing to measure")
	errTooLong = errors.New("file is too long")
)

// reader reads files into a buffer of its own. It asks the kernel without the
// detours of os.File, as a collection reads hundreds of small files.
type reader struct{ buf []byte }

// read returns what a file holds; it is valid until the next call.
func (r *reader) read(path string) ([]byte, error) {
	fd, err := open(path)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }() // it was only read
	if r.buf == nil {
		r.buf = make([]byte, 4096)
	}
	n := 0
	for {
		if n == len(r.buf) {
			if n >= maxFile {
				return nil, &fs.PathError{Op: "read", Path: path, Err: errTooLong}
			}
			r.buf = append(r.buf, make([]byte, len(r.buf))...)
		}
		got, err := unix.Read(fd, r.buf[n:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		case got <= 0:
			return r.buf[:n], nil
		default:
			n += got
		}
	}
}

func open(path string) (int, error) { return openAt(unix.AT_FDCWD, path, unix.O_RDONLY) }

func openAt(dir int, path string, mode int) (int, error) {
	for {
		// Without O_NONBLOCK a FIFO that somebody has put there would block.
		fd, err := unix.Openat(dir, path, mode|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// folder is a directory of small files, each of which is one value.
type folder struct {
	reader *reader
	fd     int
}

// folder opens a directory; a file in it is found without walking the whole path.
func (r *reader) folder(path string) (folder, error) {
	fd, err := openAt(unix.AT_FDCWD, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return folder{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return folder{r, fd}, nil
}

func (f folder) close() { _ = unix.Close(f.fd) } // nothing was written

// value returns the value in a file without the white space around it. The kernel
// hands out a value in one piece, so there is no need to ask for the end.
func (f folder) value(name string) ([]byte, error) {
	fd, err := openAt(f.fd, name, unix.O_RDONLY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer func() { _ = unix.Close(fd) }() // it was only read
	if f.reader.buf == nil {
		f.reader.buf = make([]byte, 4096)
	}
	for {
		n, err := unix.Read(fd, f.reader.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: name, Err: err}
		}
		return bytes.TrimSpace(f.reader.buf[:max(n, 0)]), nil
	}
}

func (f folder) text(name string) (string, error) {
	b, err := f.value(name)
	return string(b), err
}

func (f folder) number(name string) (float64, bool) {
	b, err := f.value(name)
	if err != nil {
		return 0, false
	}
	return parseNumber(b)
}

// text returns what a small file holds without the white space around it.
func (r *reader) text(path string) (string, error) {
	return folder{r, unix.AT_FDCWD}.text(path)
}

// number returns the number that a file holds; ok is false if there is none.
func (r *reader) number(path string) (float64, bool) {
	return folder{r, unix.AT_FDCWD}.number(path)
}

// parseNumber reads a number, in decimal, or in hexadecimal after 0x.
func parseNumber(b []byte) (float64, bool) {
	digits, negative := bytes.CutPrefix(b, []byte("-"))
	if len(digits) == 0 || len(digits) > 15 {
		return parseLong(string(b))
	}
	n := int64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return parseLong(string(b))
		}
		n = n*10 + int64(c-'0')
	}
	if negative {
		n = -n
	}
	return float64(n), true
}

func parseLong(s string) (float64, bool) {
	if hex, ok := strings.CutPrefix(s, "0x"); ok {
		n, err := strconv.ParseUint(hex, 16, 64)
		return float64(n), err == nil
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil && !math.IsNaN(v)
}

// lines yields the lines of b that are not empty, without what ends them.
func lines(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			line, rest, _ := bytes.Cut(b, []byte{'\n'})
			b = rest
			if line = bytes.TrimSpace(line); len(line) > 0 && !yield(line) {
				return
			}
		}
	}
}

// fields appends the words of a line to dst.
func fields(dst [][]byte, line []byte) [][]byte {
	for i := 0; i < len(line); {
		if line[i] == ' ' || line[i] == '\t' {
			i++
			continue
		}
		start := i
		for i < len(line) && line[i] != ' ' && line[i] != '\t' {
			i++
		}
		dst = append(dst, line[start:i])
	}
	return dst
}

// list returns the names in a directory, in order; there are none if there is no
// such directory.
func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = e.Name()
	}
	return out, err
}

// numbered tells whether a name is a prefix and a number, and returns the number.
func numbered(name, prefix string) (string, bool) {
	n, ok := strings.CutPrefix(name, prefix)
	if !ok || n == "" || strings.Trim(n, "0123456789") != "" {
		return "", false
	}
	return n, true
}

// absent turns the error of a file that is not there into errNoData.
func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return errNoData
	}
	return err
}

// sources says where to read.
type sources struct {
	Config
	rounds *shared
}

func (s *sources) proc(path ...string) string {
	return filepath.Join(append([]string{s.ProcFS}, path...)...)
}
func (s *sources) sys(path ...string) string {
	return filepath.Join(append([]string{s.SysFS}, path...)...)
}
func (s *sources) root(path ...string) string {
	return filepath.Join(append([]string{s.RootFS}, path...)...)
}
