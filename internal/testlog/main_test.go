package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	const in = `{"Action":"start","Package":"p/a"}
{"Action":"output","Package":"p/a","Test":"TestSkip","Output":"=== RUN   TestSkip\n"}
{"Action":"output","Package":"p/a","Test":"TestSkip","Output":"    a_test.go:7: no broker here\n"}
{"Action":"output","Package":"p/a","Test":"TestSkip","Output":"--- SKIP: TestSkip (0.00s)\n"}
{"Action":"skip","Package":"p/a","Test":"TestSkip","Elapsed":0}
{"Action":"output","Package":"p/a","Test":"TestQuiet","Output":"--- SKIP: TestQuiet (0.00s)\n"}
{"Action":"skip","Package":"p/a","Test":"TestQuiet","Elapsed":0}
{"Action":"output","Package":"p/a","Test":"TestOK","Output":"noise\n"}
{"Action":"pass","Package":"p/a","Test":"TestOK","Elapsed":0}
{"Action":"pass","Package":"p/a","Elapsed":0.5}
{"Action":"output","Package":"p/b","Test":"TestBad","Output":"    b_test.go:7: got 1, want 2\n"}
{"Action":"fail","Package":"p/b","Test":"TestBad","Elapsed":0}
{"Action":"output","Package":"p/b","Output":"FAIL\n"}
{"Action":"fail","Package":"p/b","Elapsed":1}
{"Action":"skip","Package":"p/c","Elapsed":0}
{"ImportPath":"p/d","Action":"build-output","Output":"d.go:1: syntax error\n"}
{"Action":"fail","Package":"p/d","Elapsed":0,"FailedBuild":"p/d"}
go: a line of its own`
	const want = `ok  	p/a	0.5s
    b_test.go:7: got 1, want 2
FAIL
FAIL	p/b	1.0s
?   	p/c	[no test files]
d.go:1: syntax error
FAIL	p/d	0.0s
go: a line of its ownskipped p/a TestSkip: no broker here
skipped p/a TestQuiet: no reason given
1 passed, 3 failed, 2 skipped
`
	var out strings.Builder
	s, err := report(strings.NewReader(in), &out)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
	if s.failed != 3 || s.packages != 4 {
		t.Errorf("got %+v", s)
	}
}
