package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// archive is a cpio archive in the form that kernels unpack ("newc").
type archive struct {
	b     bytes.Buffer
	inode int
	dirs  map[string]bool
}

func newArchive() *archive { return &archive{dirs: make(map[string]bool)} }

// entry adds a name with its header; each of the two parts is padded to four
// bytes.
func (a *archive) entry(name string, mode uint32, content []byte) {
	a.inode++
	fmt.Fprintf(&a.b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		a.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	a.b.WriteString(name)
	a.b.WriteByte(0)
	a.pad()
	a.b.Write(content)
	a.pad()
}

func (a *archive) pad() {
	for a.b.Len()%4 != 0 {
		a.b.WriteByte(0)
	}
}

// dir adds a directory, and those above it.
func (a *archive) dir(name string) {
	if name == "." || name == "/" || a.dirs[name] {
		return
	}
	a.dir(filepath.Dir(name))
	a.dirs[name] = true
	a.entry(name, 0o40755, nil)
}

func (a *archive) file(name string, mode uint32, content []byte) {
	a.dir(filepath.Dir(name))
	a.entry(name, 0o100000|mode, content)
}

// tree adds the files below from, as below to.
func (a *archive) tree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		a.file(filepath.Join(to, rest), 0o644, b)
		return nil
	})
}

func (a *archive) bytes() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.b.Bytes()
}

var library = regexp.MustCompile(`(?m)(/\S+) \(0x`)

// addProgram adds a program of this machine, or of .cache/tools, with the shared
// libraries that it names.
func addProgram(a *archive, name string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join(".cache/tools/usr/sbin", name)
		if !exists(path) {
			return errors.New("it is missing; make test-tools unpacks it")
		}
	}
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		return fmt.Errorf("ask for the libraries of %s: %w", path, err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	a.file("usr/sbin/"+name, 0o755, b)
	for _, m := range library.FindAllStringSubmatch(string(out), -1) {
		if b, err = os.ReadFile(m[1]); err != nil {
			return err
		}
		a.file(strings.TrimPrefix(m[1], "/"), 0o755, b)
	}
	for _, d := range []string{"var/log/nginx", "var/lib/nginx"} {
		a.dir(d)
	}
	return nil
}
