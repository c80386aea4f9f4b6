package symbol

import (
	"bytes"
	"container/list"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// fileKey tells files apart, and a file from what it was before it was written to,
// without a look into it.
type fileKey struct {
	dev, ino uint64
	size     int64
	changed  int64
}

// file is what is known of one mapped file.
type file struct {
	key      fileKey
	segments []segment
	tables   []*table
	bytes    int64
	evicted  bool
	use      *list.Element

	// Open until the round ends; nil: not open.
	main, debug io.ReaderAt
	noNames     bool // in this round its names could not be opened
}

// fileOf gives the file of a mapping, with its tables; nil: it cannot be read.
func (s *Symboliser) fileOf(p *process, m *mapping) *file {
	if m.file != nil && !m.file.evicted {
		s.recent.MoveToFront(m.file.use)
		s.hits++
		return m.file
	}
	if m.tried && m.file == nil {
		return nil
	}
	m.tried, m.file = true, nil
	var r io.ReaderAt
	var key fileKey
	if m.path == "[vdso]" {
		if s.vdso == nil {
			s.vdso = ownVDSO()
		}
		r, key = bytes.NewReader(s.vdso), fileKey{size: int64(len(s.vdso))}
	} else {
		f, err := s.openMapped(p.key.PID, m)
		if err != nil {
			s.failures++
			return nil
		}
		s.open = append(s.open, f)
		r = f
		key = fileKey{dev: f.stat.Dev, ino: f.stat.Ino, size: f.stat.Size, changed: unix.TimespecToNsec(f.stat.Mtim)}
	}
	if f := s.files[key]; f != nil {
		s.recent.MoveToFront(f.use)
		s.hits++
		m.file = f
		if f.main == nil {
			f.main = r
		}
		return f
	}
	s.misses++
	im, err := readImage(r, key.size)
	if err != nil {
		im = &image{r: r, size: key.size} // remembered as a file without tables
	}
	f := &file{key: key, segments: im.segments, main: r}
	s.tables(p.key.PID, m.path, im, f)
	for _, t := range f.tables {
		f.bytes += t.bytes()
	}
	f.bytes += 256 + int64(len(f.segments))*24
	f.use = s.recent.PushFront(f)
	s.files[key] = f
	s.bytes += f.bytes
	m.file = f
	s.shrink(f)
	return f
}

// tables reads what im, or its debug file, says of functions.
func (s *Symboliser) tables(pid uint32, path string, im *image, f *file) {
	add := func(t *table) bool {
		if t != nil {
			f.tables = append(f.tables, t)
		}
		return t != nil
	}
	if add(im.symbols(".symtab")) {
		return
	}
	if o, d := s.openDebug(pid, path, im); o != nil {
		s.open = append(s.open, o)
		if t := d.symbols(".symtab"); t != nil {
			t.debug = true
			f.debug = o
			add(t)
			return
		}
	}
	add(im.gotable())
	add(im.symbols(".dynsym"))
}

// nameOf gives the name of function i of a table.
func (s *Symboliser) nameOf(p *process, m *mapping, t *table, i int) (string, bool) {
	if n, ok := t.cached[i]; ok {
		return n, n != ""
	}
	r := s.names(p, m, t)
	if r == nil {
		return "", false
	}
	raw, ok := t.read(r, i)
	name := ""
	if ok {
		name = readable(raw)
	}
	t.cached[i] = name
	cost := int64(len(name)) + 48
	m.file.bytes += cost
	s.bytes += cost
	s.shrink(m.file)
	return name, name != ""
}

// names opens where the names of a table are, for this round.
func (s *Symboliser) names(p *process, m *mapping, t *table) io.ReaderAt {
	f := m.file
	if t.debug && f.debug != nil {
		return f.debug
	}
	if !t.debug && f.main != nil {
		return f.main
	}
	if f.noNames {
		return nil
	}
	if m.path == "[vdso]" {
		f.main = bytes.NewReader(s.vdso)
		return f.main
	}
	o, err := s.openMapped(p.key.PID, m)
	if err != nil {
		s.failures++
		f.noNames = true
		return nil
	}
	s.open = append(s.open, o)
	if o.stat.Dev != f.key.dev || o.stat.Ino != f.key.ino || o.stat.Size != f.key.size || unix.TimespecToNsec(o.stat.Mtim) != f.key.changed {
		f.noNames = true // written over since
		return nil
	}
	f.main = o
	if !t.debug {
		return f.main
	}
	im, err := readImage(o, o.stat.Size)
	if err != nil {
		f.noNames = true
		return nil
	}
	d, _ := s.openDebug(p.key.PID, m.path, im)
	if d == nil {
		f.noNames = true
		return nil
	}
	s.open = append(s.open, d)
	f.debug = d
	return d
}

// shrink forgets the files not used longest until the rest fits, and then
// processes that this round has not met. keep stays.
func (s *Symboliser) shrink(keep *file) {
	for s.bytes > s.maxBytes {
		e := s.recent.Back()
		if e == nil || e.Value.(*file) == keep {
			break
		}
		s.forget(e.Value.(*file))
		s.evictions++
	}
	if s.bytes <= s.maxBytes {
		return
	}
	for k, p := range s.processes {
		if !p.checked.Equal(s.round) {
			s.bytes -= p.bytes
			delete(s.processes, k)
			s.evictions++
		}
	}
}

func (s *Symboliser) forget(f *file) {
	s.recent.Remove(f.use)
	delete(s.files, f.key)
	s.bytes -= f.bytes
	f.evicted, f.tables = true, nil
}

// ownVDSO copies the kernel's vdso out of this process: it is everybody's.
func ownVDSO() []byte {
	maps, err := readAtMost("/proc/self/maps", 4<<20)
	if err != nil {
		return nil
	}
	for _, m := range parseMaps(maps) {
		if m.path != "[vdso]" || m.end-m.start > 1<<20 {
			continue
		}
		f, err := os.Open("/proc/self/mem")
		if err != nil {
			return nil
		}
		defer f.Close()
		b := make([]byte, m.end-m.start)
		if _, err := f.ReadAt(b, int64(m.start)); err != nil {
			return nil
		}
		return b
	}
	return nil
}

// errGone says that a process cannot be read.
func errGone(pid uint32, err error) error {
	return fmt.Errorf("read the mappings of process %d: %w", pid, err)
}
