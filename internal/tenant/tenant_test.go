package tenant

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	for id, valid := range map[string]bool{
		"default": true, "team-a_1.x": true, "9": true, strings.Repeat("a", MaxLength): true,
		"": false, ".": false, "..": false, ".hidden": false, "a/b": false, "a b": false,
		"a\x00": false, "é": false, "a|b": false, strings.Repeat("a", MaxLength+1): false,
	} {
		err := Validate(id)
		if (err == nil) != valid {
			t.Errorf("Validate(%q) = %v, want valid %v", id, err, valid)
		}
		var invalid *InvalidError
		if err != nil && !errors.As(err, &invalid) {
			t.Errorf("Validate(%q) = %T, want *InvalidError", id, err)
		}
	}
}

func TestIsDirectory(t *testing.T) {
	for id, want := range map[string]bool{
		"default": true, "a b": true, "é|b": true, strings.Repeat("a", 150): true,
		"": false, ".": false, "..": false, ".lock": false, "a/b": false, `a\b`: false, "a\x00": false, strings.Repeat("a", 151): false,
	} {
		if got := IsDirectory(id); got != want {
			t.Errorf("IsDirectory(%q) = %t, want %t", id, got, want)
		}
	}
}

func TestFromRequest(t *testing.T) {
	check := func(header []string, want string, wantErr bool) {
		t.Helper()
		r := httptest.NewRequest("GET", "/", nil)
		for _, h := range header {
			r.Header.Add(Header, h)
		}
		got, err := FromRequest(r)
		if (err != nil) != wantErr || (err == nil && got != want) {
			t.Errorf("FromRequest(%q) = %q, %v, want %q, error %v", header, got, err, want, wantErr)
		}
	}
	check(nil, Default, false)
	check([]string{""}, Default, false)
	check([]string{"a"}, "a", false)
	check([]string{"a/b"}, "", true)
	check([]string{"a", "b"}, "", true)
}

func TestContext(t *testing.T) {
	if got := FromContext(context.Background()); got != Default {
		t.Errorf("FromContext of an empty context = %q, want %q", got, Default)
	}
	if got := FromContext(NewContext(context.Background(), "x")); got != "x" {
		t.Errorf("FromContext = %q, want x", got)
	}
}
