package sql

import "bytes"

// AppendSummary appends the text with literals replaced by ?, white space folded
// and comments left out, SummaryBytes at most. Of a text that was cut off within
// a literal nothing of the literal is left.
func AppendSummary(dst, text []byte, d Dialect) []byte {
	limit := len(dst) + SummaryBytes
	start := len(dst)
	i := 0
	for i < len(text) && len(dst) < limit {
		c := text[i]
		switch {
		case c == 0:
			i = len(text)
		case isSpace(c):
			dst = appendSpace(dst, start)
			i++
		case isComment(text, i, d):
			dst = appendSpace(dst, start)
			i = comment(text, i, false)
		case c == '\'':
			dst, i = append(dst, '?'), quoteEnd(text, i, d == MySQL)
		case c == '"' && d == MySQL:
			dst, i = append(dst, '?'), quoteEnd(text, i, true)
		case c == '"' || c == '`':
			end := quoteEnd(text, i, false)
			dst, i = append(dst, text[i:end]...), end
		case c == '$' && d == PostgreSQL:
			dst, i = appendDollar(dst, text, i)
		case isDigit(c), c == '.' && i+1 < len(text) && isDigit(text[i+1]):
			dst, i = append(dst, '?'), numberEnd(text, i)
		case isWord(c):
			dst, i = appendWord(dst, text, i, d)
		default:
			dst = append(dst, c)
			i++
		}
	}
	dst = dst[:min(len(dst), limit)]
	for len(dst) > start && (dst[len(dst)-1] == ' ' || dst[len(dst)-1] == ';') {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// isComment: # begins a comment in MySQL only; elsewhere it is an operator.
func isComment(text []byte, i int, d Dialect) bool {
	if text[i] == '#' {
		return d == MySQL
	}
	return comment(text, i, false) > i
}

func appendSpace(dst []byte, start int) []byte {
	if len(dst) == start || dst[len(dst)-1] == ' ' {
		return dst
	}
	return append(dst, ' ')
}

// appendWord appends a name or keyword. What may stand before a quote, as in
// E'…', X'…' and N'…', goes with the literal.
func appendWord(dst, text []byte, i int, d Dialect) ([]byte, int) {
	end := wordEnd(text, i)
	if d == PostgreSQL { // names may hold $
		for end < len(text) && (text[end] == '$' || isWord(text[end])) {
			end++
		}
	}
	if end < len(text) && text[end] == '\'' && (end-i == 1 || text[i] == '_') {
		return append(dst, '?'), quoteEnd(text, end, d == MySQL || text[i]|0x20 == 'e')
	}
	return append(dst, text[i:end]...), end
}

// appendDollar appends $1 as it is, and ? for $$…$$ and $tag$…$tag$.
func appendDollar(dst, text []byte, i int) ([]byte, int) {
	end := wordEnd(text, i+1)
	switch {
	case end < len(text) && text[end] == '$' && (end == i+1 || !isDigit(text[i+1])):
		tag := text[i : end+1]
		if n := bytes.Index(text[end+1:], tag); n >= 0 {
			return append(dst, '?'), end + 1 + n + len(tag)
		}
		return append(dst, '?'), len(text)
	case end == len(text) && end > i+1 && !isDigit(text[i+1]):
		return append(dst, '?'), end
	}
	return append(dst, text[i:end]...), end
}

// numberEnd gives the end of 12, 1.5e-3, 0x1F and the like.
func numberEnd(text []byte, i int) int {
	for i < len(text) {
		c := text[i]
		sign := (c == '+' || c == '-') && text[i-1]|0x20 == 'e'
		if !isWord(c) && c != '.' && !sign {
			break
		}
		i++
	}
	return i
}
