package traceql

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEnd   tokenKind = iota
	tokPunct           // one of { } ( ) , |
	tokOp              // an operator: op
	tokIdent           // a word: text
	tokField           // an attribute or scoped intrinsic: attr
	tokValue           // a string, number or duration: value
)

type token struct {
	kind  tokenKind
	at    Pos
	end   Pos
	text  string // as written
	op    Op
	attr  Attribute
	value Static
}

// describe says what the token is, for errors.
func (t *token) describe() string {
	if t.kind == tokEnd {
		return "the end of the query"
	}
	text := t.text
	if len(text) > 40 {
		text = strings.ToValidUTF8(text[:40], "") + "…"
	}
	return strconv.Quote(text)
}

type lexer struct {
	query string
	pos   int
}

// operators, longest first.
var operators = []struct {
	text string
	op   Op
}{
	{"!>>", OpNotDescendant}, {"!<<", OpNotAncestor}, {"&>>", OpUnionDescendant}, {"&<<", OpUnionAncestor},
	{"!>", OpNotChild}, {"!<", OpNotParent}, {"!~", OpNotRegex}, {"!=", OpNotEqual},
	{"&>", OpUnionChild}, {"&<", OpUnionParent}, {"&~", OpUnionSibling}, {"&&", OpAnd}, {"||", OpOr},
	{">>", OpDescendant}, {"<<", OpAncestor}, {">=", OpGreaterEqual}, {"<=", OpLessEqual}, {"=~", OpRegex},
	{"!", OpNot}, {">", OpGreater}, {"<", OpLess}, {"=", OpEqual}, {"~", OpSibling},
	{"+", OpAdd}, {"-", OpSub}, {"*", OpMul}, {"/", OpDiv}, {"%", OpMod}, {"^", OpPow},
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// isNameRune reports whether r can be part of an attribute's name without
// quotes.
func isNameRune(r rune) bool {
	return !unicode.IsSpace(r) && unicode.IsPrint(r) && !strings.ContainsRune("{}()=~!<>&|^,\"`'", r)
}

// errorAt returns an error that points at a place.
func (l *lexer) errorAt(at Pos, message string) error {
	return newError(l.query, at, message)
}

// peekByte returns the byte at an offset from the position, 0 at the end.
func (l *lexer) peekByte(ahead int) byte {
	if l.pos+ahead < len(l.query) {
		return l.query[l.pos+ahead]
	}
	return 0
}

// skip moves over white space and comments.
func (l *lexer) skip() error {
	for l.pos < len(l.query) {
		r, size := utf8.DecodeRuneInString(l.query[l.pos:])
		switch {
		case unicode.IsSpace(r):
			l.pos += size
		case strings.HasPrefix(l.query[l.pos:], "//"):
			n := strings.IndexByte(l.query[l.pos:], '\n')
			if n < 0 {
				n = len(l.query) - l.pos
			}
			l.pos += n
		case strings.HasPrefix(l.query[l.pos:], "/*"):
			n := strings.Index(l.query[l.pos+2:], "*/")
			if n < 0 {
				return l.errorAt(Pos(l.pos), "comment is not closed: want */")
			}
			l.pos += n + 4
		default:
			return nil
		}
	}
	return nil
}

// next returns the next token.
func (l *lexer) next() (token, error) {
	if err := l.skip(); err != nil {
		return token{}, err
	}
	t := token{at: Pos(l.pos)}
	err := l.read(&t)
	t.end = Pos(l.pos)
	t.text = l.query[t.at:t.end]
	return t, err
}

func (l *lexer) read(t *token) error {
	if l.pos == len(l.query) {
		return nil
	}
	c := l.query[l.pos]
	switch {
	case isDigit(c) || c == '.' && isDigit(l.peekByte(1)):
		return l.number(t)
	case c == '"' || c == '\'' || c == '`':
		return l.text(t, c)
	case isLetter(c):
		return l.word(t)
	case c == '.':
		l.pos++
		t.kind = tokField
		return l.name(t)
	case strings.IndexByte("{}(),", c) >= 0, c == '|' && l.peekByte(1) != '|':
		t.kind = tokPunct
		l.pos++
		return nil
	}
	for _, o := range operators {
		if strings.HasPrefix(l.query[l.pos:], o.text) {
			t.kind, t.op = tokOp, o.op
			l.pos += len(o.text)
			return nil
		}
	}
	r, _ := utf8.DecodeRuneInString(l.query[l.pos:])
	return l.errorAt(t.at, "unexpected character "+strconv.QuoteRune(r))
}

// word reads a keyword, or an attribute or intrinsic that begins with its scope.
func (l *lexer) word(t *token) error {
	word := l.letters()
	scope, isScope := ParseScope(word)
	switch {
	case word == "parent" && l.peekByte(0) == '.':
		l.pos++
		t.kind, t.attr.Parent = tokField, true
		rest := l.query[l.pos:]
		for s := ScopeSpan; s < ScopeTrace; s++ {
			if strings.HasPrefix(rest, s.String()+".") {
				l.pos += len(s.String()) + 1
				t.attr.Scope = s
				break
			}
		}
		return l.name(t)
	case isScope && scope != ScopeTrace && l.peekByte(0) == '.':
		l.pos++
		t.kind, t.attr.Scope = tokField, scope
		return l.name(t)
	case isScope && l.peekByte(0) == ':':
		l.pos++
		at := l.pos
		name := l.letters()
		i, ok := findIntrinsic(scope, name)
		if !ok {
			return l.errorAt(Pos(at), "unknown intrinsic "+strconv.Quote(word+":"+name)+": want "+intrinsicNames(scope))
		}
		t.kind, t.attr = tokField, Attribute{Intrinsic: i, Scope: scope}
		return nil
	case word == "trace" && l.peekByte(0) == '.':
		return l.errorAt(t.at, "traces have no attributes: want trace: and one of "+intrinsicNames(ScopeTrace))
	}
	t.kind = tokIdent
	return nil
}

func (l *lexer) letters() string {
	start := l.pos
	for isLetter(l.peekByte(0)) || isDigit(l.peekByte(0)) {
		l.pos++
	}
	return l.query[start:l.pos]
}

// intrinsicNames lists the intrinsics of a scope, for errors.
func intrinsicNames(scope Scope) string {
	var names []string
	for i := range intrinsics {
		if intrinsics[i].Scope == scope && intrinsics[i].Scoped != "" {
			names = append(names, intrinsics[i].Scoped)
		}
	}
	if len(names) == 0 {
		return "none, " + scope.String() + " has no intrinsics; attributes come after a dot"
	}
	return strings.Join(names, ", ")
}

// name reads an attribute's name: parts with and without quotes.
func (l *lexer) name(t *token) error {
	var b strings.Builder
	start := l.pos
	for l.pos < len(l.query) {
		r, size := utf8.DecodeRuneInString(l.query[l.pos:])
		if r == '"' {
			if err := l.quotedName(&b); err != nil {
				return err
			}
			continue
		}
		if !isNameRune(r) {
			break
		}
		b.WriteRune(r)
		l.pos += size
	}
	t.attr.Name = b.String()
	if t.attr.Name == "" {
		return l.errorAt(Pos(start), "want the name of an attribute after the dot")
	}
	return nil
}

// quotedName reads a part of a name in double quotes; only \" and \\ are
// escapes.
func (l *lexer) quotedName(b *strings.Builder) error {
	start := Pos(l.pos)
	for l.pos++; l.pos < len(l.query); l.pos++ {
		switch c := l.query[l.pos]; {
		case c == '"':
			l.pos++
			return nil
		case c == '\\':
			l.pos++
			if e := l.peekByte(0); e != '"' && e != '\\' {
				return l.errorAt(Pos(l.pos-1), `unknown escape in an attribute's name: want \" or \\`)
			}
			b.WriteByte(l.query[l.pos])
		default:
			b.WriteByte(c)
		}
	}
	return l.errorAt(start, `attribute's name is not closed: want "`)
}

// text reads a string in double or single quotes, with Go's escapes, or in
// backquotes, without escapes.
func (l *lexer) text(t *token, quote byte) error {
	l.pos++
	rest := l.query[l.pos:]
	t.kind = tokValue
	if quote == '`' {
		n := strings.IndexByte(rest, '`')
		if n < 0 {
			return l.errorAt(t.at, "string is not closed: want `")
		}
		t.value = String(rest[:n])
		l.pos += n + 1
		return nil
	}
	var b []byte
	for len(rest) > 0 && rest[0] != quote && rest[0] != '\n' {
		if rest[0] != '\\' {
			b = append(b, rest[0])
			rest = rest[1:]
			continue
		}
		r, multibyte, tail, err := strconv.UnquoteChar(rest, quote)
		if err != nil {
			return l.errorAt(Pos(len(l.query)-len(rest)), `unknown escape in a string; write \\ for a backslash, or the string in backquotes`)
		}
		if multibyte {
			b = utf8.AppendRune(b, r)
		} else {
			b = append(b, byte(r))
		}
		rest = tail
	}
	if len(rest) == 0 || rest[0] == '\n' {
		return l.errorAt(t.at, "string is not closed: want "+string(quote))
	}
	l.pos = len(l.query) - len(rest) + 1
	t.value = String(string(b))
	return nil
}

// number reads an int, float or duration.
func (l *lexer) number(t *token) error {
	t.kind = tokValue
	l.digits()
	if c := l.peekByte(0); c == 'e' || c == 'E' {
		sign := 0
		if s := l.peekByte(1); s == '+' || s == '-' {
			sign = 1
		}
		if isDigit(l.peekByte(1 + sign)) {
			l.pos += 1 + sign
			l.digits()
		}
	}
	if c := l.query[l.pos:]; c != "" && (isLetter(c[0]) || strings.HasPrefix(c, "µ") || strings.HasPrefix(c, "μ")) {
		return l.duration(t)
	}
	text := l.query[t.at:l.pos]
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		t.value = Int(i)
		return nil
	}
	if !strings.ContainsAny(text, ".eE") {
		return l.errorAt(t.at, "number "+text+" does not fit into 64 bits")
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return l.errorAt(t.at, "malformed number "+text)
	}
	t.value = Float(f)
	return nil
}

func (l *lexer) digits() {
	for isDigit(l.peekByte(0)) || l.peekByte(0) == '.' {
		l.pos++
	}
}

// longUnit returns the length of a unit that Go's durations do not have.
func longUnit(unit string) (time.Duration, bool) {
	const day = 24 * time.Hour
	switch unit {
	case "d":
		return day, true
	case "w":
		return 7 * day, true
	case "y":
		return 365 * day, true
	}
	return 0, false
}

// duration reads numbers with units from the token's begin: 1h30m, 1.5ms, 7d.
func (l *lexer) duration(t *token) error {
	l.pos = int(t.at)
	var sum time.Duration
	for isDigit(l.peekByte(0)) || l.peekByte(0) == '.' && isDigit(l.peekByte(1)) {
		at := l.pos
		l.digits()
		number := l.query[at:l.pos]
		unit := l.unit()
		d, err := time.ParseDuration(number + unit)
		if long, ok := longUnit(unit); ok {
			var f float64
			f, err = strconv.ParseFloat(number, 64)
			if d = time.Duration(f * float64(long)); f > float64(math.MaxInt64/long) {
				return l.errorAt(t.at, "duration is beyond 292 years")
			}
		}
		if err != nil {
			return l.errorAt(Pos(at), "malformed duration "+strconv.Quote(number+unit)+": want a number and ns, us, ms, s, m, h, d, w or y")
		}
		if sum += d; sum < 0 {
			return l.errorAt(t.at, "duration is beyond 292 years")
		}
	}
	t.value = Duration(int64(sum))
	return nil
}

func (l *lexer) unit() string {
	start := l.pos
	for l.pos < len(l.query) {
		r, size := utf8.DecodeRuneInString(l.query[l.pos:])
		if r != 'µ' && r != 'μ' && (r >= utf8.RuneSelf || !isLetter(byte(r))) {
			break
		}
		l.pos += size
	}
	return l.query[start:l.pos]
}
