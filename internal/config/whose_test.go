package config

import "testing"

// A value that another decoder refuses is told with its key, if there is one of it.
func TestWhose(t *testing.T) {
	const data = "a: 1\njobs:\n- name: x\n  every: abc\n  rules:\n  - {regex: \"(\"}\n- name: x\n"
	for text, want := range map[string]string{
		`not a valid duration string: "abc"`:                  `f:4: jobs[0].every: not a valid duration string: "abc"`,
		"error parsing regexp: missing closing ): `^(?s:()$`": "f:6: jobs[0].rules[0].regex: error parsing regexp: missing closing ): `^(?s:()$`",
		`found multiple scrape configs with job name "x"`:     `f: found multiple scrape configs with job name "x"`,
		`found no such thing as "y"`:                          `f: found no such thing as "y"`,
		`"abc" is no duration`:                                `f: "abc" is no duration`,
		"no end of \"\\x\"":                                   "f: no end of \"\\x\"",
	} {
		p := Problems{{File: "f", Text: text}}
		Whose(p, "f", []byte(data))
		if got := p.Error(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	p := Problems{{File: "f", Line: 7, Text: `"abc"`}}
	Whose(p, "f", []byte("a: ["))
	Whose(p, "f", []byte(data))
	if p[0].Line != 7 || p[0].Key != "" {
		t.Errorf("got %v, want what it was", p)
	}
}
