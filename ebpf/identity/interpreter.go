package identity

import (
	"path/filepath"
	"slices"
	"strings"
)

// interpreter says how a language's interpreter is given what it runs.
type interpreter struct {
	module  string   // the short option that a module's name follows
	code    string   // short options that program text follows: nothing to name
	long    []string // likewise
	valued  string   // short options that take the rest, or the next argument
	valuedL []string // long ones that take the next argument
	rest    string   // short options that take the rest, if there is any
}

var interpreters = map[string]interpreter{
	"python": {module: "m", code: "c", valued: "WX", valuedL: []string{"--check-hash-based-pycs"}},
	"node":   {code: "ep", long: []string{"--eval", "--print"}, valued: "rC", valuedL: []string{"--require", "--import", "--loader", "--conditions"}},
	"ruby":   {code: "e", valued: "ICEr"},
	"perl":   {code: "eE", valued: "I", rest: "MmiFx"},
	"php":    {code: "rBREF", long: []string{"--run"}, valued: "cdzSt"},
}

// fromInterpreter names what java, python, node, ruby, perl or php runs. Text of
// programs, which may hold anything, is no name.
func fromInterpreter(exe string, args []string) string {
	lang := strings.TrimRight(exe, "0123456789.")
	name := ""
	switch lang {
	case "java":
		name = fromJava(args)
	case "nodejs":
		name = fromScript(args, interpreters["node"])
	case "python", "node", "ruby", "perl", "php":
		name = fromScript(args, interpreters[lang])
	}
	if !isFileName(name) {
		return ""
	}
	return name
}

// javaValued are the options of java that take the next argument.
var javaValued = []string{
	"-cp", "-classpath", "--class-path", "-p", "--module-path", "--upgrade-module-path", "--add-modules", "--limit-modules",
	"--add-reads", "--add-exports", "--add-opens", "--patch-module", "--enable-native-access", "--source",
}

func fromJava(args []string) string {
	for i := 1; i < len(args); i++ {
		switch a := args[i]; {
		case a == "-jar" && i+1 < len(args):
			return strings.TrimSuffix(filepath.Base(args[i+1]), ".jar")
		case (a == "-m" || a == "--module") && i+1 < len(args):
			return args[i+1][strings.LastIndexAny(args[i+1], "./")+1:]
		case slices.Contains(javaValued, a):
			i++
		case strings.HasPrefix(a, "-") || strings.HasPrefix(a, "@"):
		default:
			return a[strings.LastIndexByte(a, '.')+1:]
		}
	}
	return ""
}

func fromScript(args []string, in interpreter) string {
	for i := 1; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--" && i+1 < len(args):
			return scriptName(args[i+1])
		case strings.HasPrefix(a, "--"):
			name, _, _ := strings.Cut(a, "=")
			if slices.Contains(in.long, name) {
				return ""
			}
			if slices.Contains(in.valuedL, a) {
				i++
			}
		case len(a) > 1 && a[0] == '-':
			// several short options may be in one, the last with a value
			for j, c := range a[1:] {
				last := j+2 == len(a)
				if strings.ContainsRune(in.rest, c) {
					break
				}
				if strings.ContainsRune(in.code, c) {
					return ""
				}
				if in.module != "" && strings.ContainsRune(in.module, c) {
					if !last {
						return a[j+2:]
					}
					if i+1 < len(args) {
						return args[i+1]
					}
					return ""
				}
				if strings.ContainsRune(in.valued, c) {
					if last {
						i++
					}
					break
				}
			}
		default:
			return scriptName(a)
		}
	}
	return ""
}

func scriptName(path string) string {
	base := filepath.Base(path)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// isFileName says whether a name is one that somebody gives to a program.
func isFileName(s string) bool {
	if len(s) > 100 || strings.Trim(s, ".-") == "" {
		return false
	}
	for _, c := range s {
		if c < 0x80 && !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("._-+@", c)) {
			return false
		}
	}
	return true
}

// maxName bounds the names of services and what else goes into labels.
const maxName = 200

// clean makes a name fit for a label, which is UTF-8: processes choose their names
// and environment as they like.
func clean(s string) string {
	if len(s) > maxName {
		s = s[:maxName]
		for i := 0; i < 3 && len(s) > 0 && s[len(s)-1]&0xc0 == 0x80; i++ {
			s = s[:len(s)-1]
		}
		if len(s) > 0 && s[len(s)-1] >= 0xc0 {
			s = s[:len(s)-1]
		}
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
