package block

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vedette-io/vedette/internal/vfs"
)

// Flushes are the flushes whose data a block holds. They name the block in its
// directory, order it among its neighbours, and tell which of two blocks replaces
// the other.
type Flushes struct {
	First      uint32 `json:"first"` // flush numbers, both inclusive
	Last       uint32 `json:"last"`
	Generation uint32 `json:"generation"` // how often the block was rewritten under its numbers
}

// Suffixes of the names of blocks that are not opened any more.
const (
	asideSuffix    = ".corrupt" // set aside as damaged
	replacedSuffix = ".damaged" // a repair has written what can be read of it anew
)

// Name is the name of the block's directory.
func (f Flushes) Name() string {
	return fmt.Sprintf("b-%08x-%08x-%d", f.First, f.Last, f.Generation)
}

// ParseName reads what Name has written, also where SetAside has renamed the block.
func ParseName(name string) (f Flushes, aside, ok bool) {
	name, aside = strings.CutSuffix(name, asideSuffix)
	parts := strings.Split(name, "-")
	if len(parts) != 4 || parts[0] != "b" || len(parts[1]) != 8 || len(parts[2]) != 8 {
		return Flushes{}, false, false
	}
	first, err1 := strconv.ParseUint(parts[1], 16, 32)
	last, err2 := strconv.ParseUint(parts[2], 16, 32)
	generation, err3 := strconv.ParseUint(parts[3], 10, 32)
	if err1 != nil || err2 != nil || err3 != nil || last < first {
		return Flushes{}, false, false
	}
	return Flushes{uint32(first), uint32(last), uint32(generation)}, aside, true
}

// Compare orders blocks by their flushes; of those that begin alike, the one that
// replaces the others comes first.
func (f Flushes) Compare(o Flushes) int {
	return cmp.Or(cmp.Compare(f.First, o.First), cmp.Compare(o.Last, f.Last), cmp.Compare(o.Generation, f.Generation))
}

// Replaces reports whether f holds the flushes of o, which is behind it in order:
// a crash between a merge and its clean-up leaves both.
func (f Flushes) Replaces(o Flushes) bool { return o.Last <= f.Last }

// Follows reports whether no flush lies between o and f. One does where a damaged
// block was set aside: a merge must not close over its place, since a repair may
// bring it back.
func (f Flushes) Follows(o Flushes) bool { return o.Last+1 == f.First }

// SetAside renames a damaged block so that nobody opens it again but a person or a
// repair. A crash may undo it; the block is found damaged again then.
func SetAside(fs vfs.FS, dir string) error { return fs.Rename(dir, dir+asideSuffix) }

// SetReplaced renames a damaged block, set aside or not, of which a repair has
// written a new one, durably.
func SetReplaced(fs vfs.FS, dir string) error {
	if err := fs.Rename(dir, strings.TrimSuffix(dir, asideSuffix)+replacedSuffix); err != nil {
		return fmt.Errorf("repair block: %w", err)
	}
	return fs.SyncDir(filepath.Dir(dir))
}

// Link links the files of the block in from into the new directory to, durably but
// for the name of to in its parent.
func Link(fs vfs.FS, from, to string) error {
	if err := fs.MkdirAll(to); err != nil {
		return err
	}
	files, err := fs.List(from)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := fs.Link(filepath.Join(from, f), filepath.Join(to, f)); err != nil {
			return err
		}
	}
	return fs.SyncDir(to)
}
