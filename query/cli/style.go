package cli

import "github.com/mattn/go-runewidth"

// ink is an ANSI colour or attribute.
type ink string

const (
	inkNone  ink = ""
	inkBold  ink = "1"
	inkDim   ink = "2"
	inkError ink = "31"
)

// serviceInks tell services apart; none of them is that of errors.
func serviceInks() []ink { return []ink{"36", "32", "33", "35", "34", "96", "92", "93", "95", "94"} }

// signs are the characters that a waterfall is drawn with. All are as wide as
// one column.
type signs struct {
	full, left, right, folded   string // of bars
	branch, last, line, nothing string // of the tree, two columns each
	deep                        string
	fault                       string
	between                     string // service and operation
	times                       string
	event                       string
}

func newSigns(ascii bool) signs {
	if ascii {
		return signs{
			full: "=", left: "=", right: "=", folded: "-",
			branch: "|-", last: "`-", line: "| ", nothing: "  ",
			deep: ">", fault: "E", between: "/", times: "x", event: "*",
		}
	}
	return signs{
		full: "█", left: "▌", right: "▐", folded: "▒",
		branch: "├╴", last: "└╴", line: "│ ", nothing: "  ",
		deep: "»", fault: "✗", between: "·", times: "×", event: "•",
	}
}

// pen paints text if it may.
type pen struct{ color bool }

func (p pen) paint(i ink, s string) string {
	if !p.color || i == inkNone || s == "" {
		return s
	}
	return "\x1b[" + string(i) + "m" + s + "\x1b[0m"
}

// AmbiguousIsWide reports whether the locale's terminals may print characters of
// ambiguous width, those that frames and bars are drawn with among them, in two
// columns. Drawings are in ASCII then.
func AmbiguousIsWide() bool { return runewidth.RuneWidth('█') > 1 }
