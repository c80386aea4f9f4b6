package traceql

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// ParseError says what is wrong with a query, and where.
type ParseError struct {
	Query   string
	Offset  int // bytes from the start of Query
	Line    int // from 1
	Column  int // in characters, from 1
	Message string
}

func newError(query string, at Pos, message string) *ParseError {
	offset := min(int(at), len(query))
	before := query[:offset]
	line := strings.Count(before, "\n") + 1
	column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return &ParseError{Query: query, Offset: offset, Line: line, Column: column, Message: message}
}

// Summary returns the error in one line.
func (e *ParseError) Summary() string {
	return fmt.Sprintf("parse TraceQL: line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// Error returns the summary, the line of the query, and a caret below the place.
func (e *ParseError) Error() string {
	line, caret := e.excerpt()
	return e.Summary() + "\n  " + line + "\n  " + strings.Repeat(" ", caret) + "^"
}

// excerptRunes are the characters that are shown on each side of the place.
const excerptRunes = 60

// excerpt returns the line with the place, cut if it is long, and how many
// characters come before the place.
func (e *ParseError) excerpt() (string, int) {
	start := strings.LastIndexByte(e.Query[:e.Offset], '\n') + 1
	line := e.Query[start:]
	if end := strings.IndexByte(line, '\n'); end >= 0 {
		line = line[:end]
	}
	before := []rune(strings.ToValidUTF8(e.Query[start:e.Offset], "�"))
	after := []rune(strings.ToValidUTF8(line[e.Offset-start:], "�"))
	if len(before) > excerptRunes {
		before = append([]rune("…"), before[len(before)-excerptRunes:]...)
	}
	if len(after) > excerptRunes {
		after = append(after[:excerptRunes:excerptRunes], '…')
	}
	oneLine := strings.NewReplacer("\t", " ", "\r", " ")
	return oneLine.Replace(string(before) + string(after)), len(before)
}
