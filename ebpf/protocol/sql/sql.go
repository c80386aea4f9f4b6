// Package sql tells what an SQL statement does, and makes a summary of it that
// holds none of its values.
//
//	text ─► Operation      ─► one of a bounded list: SELECT, INSERT, … or OTHER
//	     ─► AppendSummary  ─► the text with ? for literals, without comments, 256 bytes at most
//
// The text may be cut off anywhere: only the beginning of a query is copied from
// the kernel. Neither allocates.
package sql

// Other is the operation of a statement that is not known.
const Other = "OTHER"

// SummaryBytes bounds a summary.
const SummaryBytes = 256

// Dialect is whose rules the text follows.
type Dialect uint8

// The dialects. They differ in what quotes mean.
const (
	PostgreSQL Dialect = iota
	MySQL
)

// known gives the operation that a word begins, or "".
func known(word []byte) string {
	var upper [16]byte
	if len(word) > len(upper) {
		return ""
	}
	for i, c := range word {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper[i] = c
	}
	// A switch on a converted byte slice does not allocate.
	switch string(upper[:len(word)]) {
	case "SELECT", "TABLE", "VALUES":
		return "SELECT"
	case "INSERT":
		return "INSERT"
	case "UPDATE":
		return "UPDATE"
	case "DELETE":
		return "DELETE"
	case "MERGE":
		return "MERGE"
	case "REPLACE":
		return "REPLACE"
	case "BEGIN", "START":
		return "BEGIN"
	case "COMMIT", "END":
		return "COMMIT"
	case "ROLLBACK", "ABORT":
		return "ROLLBACK"
	case "SAVEPOINT":
		return "SAVEPOINT"
	case "RELEASE":
		return "RELEASE"
	case "SET":
		return "SET"
	case "SHOW":
		return "SHOW"
	case "USE":
		return "USE"
	case "CREATE":
		return "CREATE"
	case "ALTER":
		return "ALTER"
	case "DROP":
		return "DROP"
	case "TRUNCATE":
		return "TRUNCATE"
	}
	return rare(upper[:len(word)])
}

// rare goes on with the operations that are seldom.
func rare(upper []byte) string {
	switch string(upper) {
	case "RENAME":
		return "RENAME"
	case "CALL":
		return "CALL"
	case "DO":
		return "DO"
	case "COPY":
		return "COPY"
	case "LOAD":
		return "LOAD"
	case "PREPARE":
		return "PREPARE"
	case "EXECUTE":
		return "EXECUTE"
	case "DEALLOCATE":
		return "DEALLOCATE"
	case "DECLARE":
		return "DECLARE"
	case "FETCH":
		return "FETCH"
	case "MOVE":
		return "MOVE"
	case "CLOSE":
		return "CLOSE"
	case "EXPLAIN", "DESCRIBE", "DESC":
		return "EXPLAIN"
	case "ANALYZE", "ANALYSE":
		return "ANALYZE"
	case "VACUUM":
		return "VACUUM"
	case "OPTIMIZE":
		return "OPTIMIZE"
	case "REINDEX":
		return "REINDEX"
	case "CLUSTER":
		return "CLUSTER"
	case "REFRESH":
		return "REFRESH"
	case "LOCK":
		return "LOCK"
	case "UNLOCK":
		return "UNLOCK"
	case "GRANT":
		return "GRANT"
	case "REVOKE":
		return "REVOKE"
	case "COMMENT":
		return "COMMENT"
	case "LISTEN":
		return "LISTEN"
	case "UNLISTEN":
		return "UNLISTEN"
	case "NOTIFY":
		return "NOTIFY"
	case "DISCARD":
		return "DISCARD"
	case "RESET":
		return "RESET"
	case "CHECKPOINT":
		return "CHECKPOINT"
	case "FLUSH":
		return "FLUSH"
	case "KILL":
		return "KILL"
	}
	return ""
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isWord says whether c belongs into a name or keyword.
func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c) || c == '_' || c >= 0x80
}

// Operation gives what the first statement of a text does. Of a statement that
// begins with WITH it is what follows the common table expressions, if that was
// copied.
func Operation(text []byte) string {
	i := 0
	for i < len(text) {
		switch c := text[i]; {
		case isSpace(c), c == '(', c == ';':
			i++
		case comment(text, i, true) > i:
			i = comment(text, i, true)
		case isWord(c):
			end := wordEnd(text, i)
			if op := known(text[i:end]); op != "" {
				return op
			}
			if end-i == 4 && text[i]|0x20 == 'w' && text[i+1]|0x20 == 'i' && text[i+2]|0x20 == 't' && text[i+3]|0x20 == 'h' {
				return afterWith(text, end)
			}
			return Other
		default:
			return Other
		}
	}
	return Other
}

// afterWith looks for the verb outside of parentheses.
func afterWith(text []byte, i int) string {
	depth := 0
	for i < len(text) {
		switch c := text[i]; {
		case comment(text, i, true) > i:
			i = comment(text, i, true)
		case c == '\'' || c == '"' || c == '`':
			i = quoteEnd(text, i, false)
		case c == '(':
			depth++
			i++
		case c == ')':
			depth--
			i++
		case isWord(c):
			end := wordEnd(text, i)
			if depth == 0 {
				switch op := known(text[i:end]); op {
				case "SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE":
					return op
				}
			}
			i = end
		default:
			i++
		}
	}
	return Other
}

func wordEnd(text []byte, i int) int {
	for i < len(text) && isWord(text[i]) {
		i++
	}
	return i
}

// comment gives the end of the comment that begins at i, or i if none does.
// MySQL's /*! … */ holds text that is executed; executed says whether to go into
// it.
func comment(text []byte, i int, executed bool) int {
	rest := text[i:]
	switch {
	case len(rest) >= 2 && rest[0] == '-' && rest[1] == '-', rest[0] == '#':
		for j, c := range rest {
			if c == '\n' {
				return i + j + 1
			}
		}
		return len(text)
	case len(rest) >= 2 && rest[0] == '/' && rest[1] == '*':
		if executed && len(rest) > 2 && rest[2] == '!' {
			j := 3
			for j < len(rest) && isDigit(rest[j]) {
				j++
			}
			return i + j
		}
		for j := 2; j+1 < len(rest); j++ {
			if rest[j] == '*' && rest[j+1] == '/' {
				return i + j + 2
			}
		}
		return len(text)
	}
	return i
}

// quoteEnd gives the end of what the quote at i opens. A doubled quote stays
// inside, and with escapes a quote after a backslash does.
func quoteEnd(text []byte, i int, escapes bool) int {
	q := text[i]
	for i++; i < len(text); i++ {
		switch {
		case escapes && text[i] == '\\':
			i++
		case text[i] == q:
			if i+1 < len(text) && text[i+1] == q {
				i++
				continue
			}
			return i + 1
		}
	}
	return len(text)
}
