package symbol

import (
	"strings"

	"github.com/ianlancetaylor/demangle"
)

// maxShown bounds a name after it was demangled.
const maxShown = 512

// readable demangles names of C++ and Rust and leaves others as they are. What
// would break the lines of a folded stack is replaced.
func readable(name string) string {
	// A symbol's version is not part of its name.
	if i := strings.IndexByte(name, '@'); i > 0 {
		name = name[:i]
	}
	if strings.HasPrefix(name, "_Z") || strings.HasPrefix(name, "_R") || strings.HasPrefix(name, "___Z") {
		// A few bytes of mangled name can stand for megabytes; MaxLength stops
		// at 2^12 characters.
		if d, err := demangle.ToString(name, demangle.NoParams, demangle.NoEnclosingParams, demangle.NoClones, demangle.MaxLength(12)); err == nil {
			name = d
		}
	}
	return Clean(name)
}

// Clean makes a name fit for a line of folded stacks: valid UTF-8 of bounded
// length without semicolons and control characters.
func Clean(name string) string {
	if len(name) > maxShown {
		name = name[:maxShown]
	}
	name = strings.ToValidUTF8(name, "?")
	if strings.IndexFunc(name, unfit) < 0 {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == ';':
			return ':'
		case unfit(r):
			return ' '
		}
		return r
	}, name)
}

func unfit(r rune) bool { return r == ';' || r < ' ' || r == 0x7f }
