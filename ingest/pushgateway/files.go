package pushgateway

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/ingest/exposition"
	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/internal/vfs"
)

// Layout of a group's file; docs/format/pushgateway.md draws it.
const (
	fileMagic   = "VEDPUSHG"
	fileVersion = 1
	headerSize  = 24

	fileSuffix    = ".group"
	tempSuffix    = ".tmp"
	corruptSuffix = ".corrupt"
)

// files keeps groups, one file each, in a directory.
type files struct {
	fs  vfs.FS
	dir string
}

// path returns the name of a group's file.
func (s *files) path(id string) string {
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(s.dir, hex.EncodeToString(sum[:16])+fileSuffix)
}

// prepare writes a group's next file under a temporary name, durably.
func (s *files) prepare(gr *group, next *state) error {
	data, err := encodeGroup(gr, next)
	if err != nil {
		return err
	}
	name := s.path(gr.id) + tempSuffix
	f, err := s.fs.Create(name)
	if err != nil {
		return fmt.Errorf("write group: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		s.discard(gr.id)
		return fmt.Errorf("write group: %w", err)
	}
	return nil
}

// discard removes what prepare has written. A leftover does no harm: Open
// removes it.
func (s *files) discard(id string) { _ = s.fs.Remove(s.path(id) + tempSuffix) }

// publish makes what prepare has written the group's file.
func (s *files) publish(id string) error {
	if err := s.fs.Rename(s.path(id)+tempSuffix, s.path(id)); err != nil {
		return fmt.Errorf("publish group: %w", err)
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return fmt.Errorf("publish group: %w", err)
	}
	return nil
}

// remove deletes a group's file, durably.
func (s *files) remove(id string) error {
	if ok, err := vfs.Exists(s.fs, s.path(id)); err != nil || !ok {
		return err
	}
	if err := s.fs.Remove(s.path(id)); err != nil {
		return fmt.Errorf("remove group: %w", err)
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return fmt.Errorf("remove group: %w", err)
	}
	return nil
}

// load reads all groups; damaged files are set aside and told to damaged.
func (s *files) load(use func(*group) error, damaged func(error)) error {
	if err := s.fs.MkdirAll(s.dir); err != nil {
		return fmt.Errorf("open groups: %w", err)
	}
	list, err := s.fs.List(s.dir)
	if err != nil {
		return fmt.Errorf("open groups: %w", err)
	}
	for _, name := range list {
		path := filepath.Join(s.dir, name)
		if strings.HasSuffix(name, tempSuffix) {
			if err := s.fs.Remove(path); err != nil {
				return fmt.Errorf("open groups: %w", err)
			}
			continue
		}
		if !strings.HasSuffix(name, fileSuffix) {
			continue
		}
		data, err := vfs.ReadFile(s.fs, path)
		if err != nil {
			return fmt.Errorf("open groups: %w", err)
		}
		gr, err := decodeGroup(data)
		if err == nil && s.path(gr.id) != path {
			err = errors.New("it is another group's file")
		}
		if err == nil {
			err = use(gr)
		}
		if err == nil {
			continue
		}
		if moveErr := s.setAside(path); moveErr != nil {
			return moveErr
		}
		damaged(&CorruptError{path, err.Error()})
	}
	return nil
}

func (s *files) setAside(path string) error {
	if err := s.fs.Rename(path, path+corruptSuffix); err != nil {
		return fmt.Errorf("set aside group: %w", err)
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return fmt.Errorf("set aside group: %w", err)
	}
	return nil
}

// encodeGroup returns the content of a group's file.
func encodeGroup(gr *group, st *state) ([]byte, error) {
	b := make([]byte, headerSize, 4<<10)
	b = appendText(b, gr.tenant)
	b = binary.AppendUvarint(b, uint64(len(gr.key)))
	for _, l := range gr.key {
		b = appendText(appendText(b, l.Name), l.Value)
	}
	b = binary.AppendVarint(b, nanos(st.pushed))
	b = binary.AppendVarint(b, nanos(st.failed))
	for _, f := range st.sorted() {
		if ownName(f.proto.GetName()) {
			continue
		}
		msg, err := proto.Marshal(f.proto)
		if err != nil {
			return nil, fmt.Errorf("encode metric %q: %w", f.proto.GetName(), err)
		}
		b = binary.AppendVarint(b, nanos(f.at))
		b = binary.AppendUvarint(b, uint64(len(msg)))
		b = append(b, msg...)
	}
	return seal(b), nil
}

// seal writes the header in front of a file's body.
func seal(b []byte) []byte {
	copy(b, fileMagic)
	binary.LittleEndian.PutUint32(b[8:], fileVersion)
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[headerSize:], crc32.MakeTable(crc32.Castagnoli)))
	binary.LittleEndian.PutUint64(b[16:], uint64(len(b)-headerSize))
	return b
}

// decodeGroup is the inverse of encodeGroup.
func decodeGroup(b []byte) (*group, error) {
	if len(b) < headerSize || string(b[:8]) != fileMagic {
		return nil, errors.New("byte 0: no group's file")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != fileVersion {
		return nil, fmt.Errorf("byte 8: version %d, want %d", v, fileVersion)
	}
	body := b[headerSize:]
	if n := binary.LittleEndian.Uint64(b[16:]); n != uint64(len(body)) {
		return nil, fmt.Errorf("byte 16: length %d, want %d", n, len(body))
	}
	if crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) != binary.LittleEndian.Uint32(b[12:]) {
		return nil, errors.New("byte 12: checksum differs")
	}
	r := fields{b: body}
	gr := &group{tenant: r.text()}
	if err := tenant.Validate(gr.tenant); err != nil {
		return nil, err
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		gr.key = append(gr.key, exposition.Label{Name: r.text(), Value: r.text()})
	}
	pushed, failed := r.time(), r.time()
	families := map[string]*family{}
	for len(r.b) > 0 && !r.bad {
		at := r.time()
		msg := r.text()
		f := &dto.MetricFamily{}
		if err := proto.Unmarshal([]byte(msg), f); err != nil {
			return nil, fmt.Errorf("byte %d: decode metric family: %w", len(b)-len(r.b), err)
		}
		made, err := newFamily(f, gr.key, at)
		if err != nil {
			return nil, fmt.Errorf("byte %d: %w", len(b)-len(r.b), err)
		}
		made.dropExemplars()
		families[f.GetName()] = made
	}
	if r.bad {
		return nil, fmt.Errorf("byte %d: cut short", len(b)-len(r.b))
	}
	gr.id = gr.key.id(gr.tenant)
	at := pushed
	if failed.After(at) {
		at = failed
	}
	var err error
	gr.state, err = newState(gr.key, families, pushed, failed, at)
	return gr, err
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// nanos returns unix nanoseconds, 0 for never.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// fields reads a file's body; bad says that it was too short.
type fields struct {
	b   []byte
	bad bool
}

func (r *fields) skip(n int) {
	if n <= 0 {
		r.bad, n = true, 0
	}
	r.b = r.b[n:]
}

func (r *fields) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	r.skip(n)
	return v
}

func (r *fields) time() time.Time {
	v, n := binary.Varint(r.b)
	r.skip(n)
	if v == 0 {
		return time.Time{}
	}
	return time.Unix(0, v)
}

func (r *fields) text() string {
	n := r.uvarint()
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}
