package log

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/vedette-io/vedette/internal/vfs"
)

// checkpointName is the file of offsets below the Tailer's directory.
const checkpointName = "log-files.json"

// checkpoint is what survives a restart.
type checkpoint struct {
	Version int              `json:"version"`
	Sources []string         `json:"sources"` // that have been looked at, by their include
	Files   []checkpointFile `json:"files"`
}

type checkpointFile struct {
	Path     string `json:"path"`
	Place    string `json:"place,omitempty"` // of a rotated one
	Dev      uint64 `json:"dev"`
	Ino      uint64 `json:"ino"`
	Offset   int64  `json:"offset"`
	Mid      bool   `json:"mid,omitempty"`
	MTime    int64  `json:"mtime"` // unix nanoseconds
	Gone     bool   `json:"gone,omitempty"`
	Finished bool   `json:"finished,omitempty"`
	mark
}

const checkpointVersion = 1

// load reads the checkpoint. One that cannot be read is put aside.
func (t *Tailer) load() error {
	name := filepath.Join(t.dir, checkpointName)
	data, err := vfs.ReadFile(vfs.OS, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var c checkpoint
	if err := json.Unmarshal(data, &c); err != nil || c.Version != checkpointVersion {
		if err == nil && c.Version > checkpointVersion {
			return fmt.Errorf("read %s: version %d, want <= %d", name, c.Version, checkpointVersion)
		}
		t.log.Error("The checkpoint of log files is damaged: it is put aside, and files are begun anew", "file", name, "err", err)
		return vfs.OS.Rename(name, name+".damaged")
	}
	for _, s := range t.sources {
		s.start = !slices.Contains(c.Sources, s.key)
	}
	t.known = c.Sources
	for i := range c.Files {
		t.restore(&c.Files[i])
	}
	return nil
}

// restore makes a file of what the checkpoint says. Whether it is still there
// the first scan tells.
func (t *Tailer) restore(c *checkpointFile) {
	s := t.sourceOf(c.Path)
	if s == nil {
		return // nobody reads it any more
	}
	f := t.newFile(s, c.Path, fileID{c.Dev, c.Ino})
	if c.Place != "" {
		f.place = c.Place
	}
	f.done, f.mid, f.doneMark = c.Offset, c.Mid, c.mark
	f.acked, f.ackedMid, f.mark = f.done, f.mid, f.doneMark
	f.mtime, f.gone, f.finished = time.Unix(0, c.MTime), c.Gone, c.Finished
	f.size = -1 // unknown
}

// sourceOf returns the source that reads a path, or nil.
func (t *Tailer) sourceOf(path string) *source {
	for _, s := range t.sources {
		if !s.excludes(path) && slices.ContainsFunc(s.Include, func(p string) bool { return matches(p, path) }) {
			return s
		}
	}
	return nil
}

// save writes the checkpoint, if something has changed since the last one.
func (t *Tailer) save() {
	if !t.dirty {
		return
	}
	c := checkpoint{Version: checkpointVersion, Sources: t.known}
	for _, f := range t.files {
		e := checkpointFile{
			Path: f.path, Dev: f.id.Dev, Ino: f.id.Ino, Offset: f.acked, Mid: f.ackedMid, MTime: f.mtime.UnixNano(), Gone: f.gone, Finished: f.finished, mark: f.mark,
		}
		if f.place != f.path {
			e.Place = f.place
		}
		c.Files = append(c.Files, e)
	}
	data, err := json.Marshal(&c)
	if err == nil {
		err = vfs.WriteFile(vfs.OS, filepath.Join(t.dir, checkpointName), data)
	}
	t.saved = time.Now()
	if err != nil {
		t.failed("checkpoint", filepath.Join(t.dir, checkpointName), err)
		return
	}
	t.dirty = false
	t.metrics.checkpoints.Inc()
}
