package log

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// expand returns the paths that match a pattern, in order.
func expand(pattern string) []string {
	before, _, deep := strings.Cut(pattern, "**")
	if !deep {
		paths, _ := filepath.Glob(pattern) // the pattern is valid, and what cannot be read is not there
		return paths
	}
	root := filepath.Dir(before + "x")
	rest := strings.Split(strings.TrimPrefix(strings.TrimPrefix(pattern, root), "/"), "/")
	var paths []string
	for _, dir := range expand(root) {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				if d != nil && d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			rel, err := filepath.Rel(dir, path)
			if err == nil && !d.IsDir() && matchNames(rest, strings.Split(rel, "/")) {
				paths = append(paths, path)
			}
			return nil
		})
	}
	return paths
}

// matches reports whether a path is one of a pattern, in which ** stands for any
// number of directories.
func matches(pattern, path string) bool {
	return matchNames(strings.Split(pattern, "/"), strings.Split(path, "/"))
}

func matchNames(pattern, names []string) bool {
	for i, p := range pattern {
		if p == "**" {
			for k := i; k <= len(names); k++ {
				if matchNames(pattern[i+1:], names[k:]) {
					return true
				}
			}
			return false
		}
		if i >= len(names) {
			return false
		}
		if ok, _ := filepath.Match(p, names[i]); !ok {
			return false
		}
	}
	return len(pattern) == len(names)
}

// excludes reports whether the source does not want a path.
func (s *source) excludes(path string) bool {
	return isCompressed(path) || slices.ContainsFunc(s.Exclude, func(pattern string) bool {
		if strings.Contains(pattern, "/") {
			return matches(pattern, path)
		}
		ok, _ := filepath.Match(pattern, filepath.Base(path))
		return ok
	})
}
