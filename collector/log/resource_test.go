package log

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// What Docker's file says of a container names its lines, and whatever is in the
// file's place does not stop them.
func TestAttributesOfDocker(t *testing.T) {
	id := strings.Repeat("a", 64)
	var labels strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&labels, `"label%d":"v",`, i)
	}
	for name, tc := range map[string]struct {
		config string
		want   []string // name, image, service
	}{
		"a container":      {`{"Name":"/web","Config":{"Image":"nginx:1","Labels":null}}`, []string{"web", "nginx:1", "web"}},
		"of Compose":       {`{"Name":"/shop-web-1","Config":{"Image":"nginx:1","Labels":{` + labels.String() + `"com.docker.compose.service":"web"}}}`, []string{"shop-web-1", "nginx:1", "web"}},
		"no text":          {"{\"Name\":\"/w\xff\"}", []string{"w�", "", "w�"}},
		"no object":        {`[]`, []string{"", "", ""}},
		"cut off":          {`{"Name":"/web"`, []string{"", "", ""}},
		"without an end":   {`{"Name":"` + strings.Repeat("x", 2*maxContainerFile), []string{"", "", ""}},
		"nothing":          {"", []string{"", "", ""}},
		"a pipe":           {"pipe", []string{"", "", ""}},
		"a label no other": {`{"Name":"/web","Config":{"Labels":{"service.name":"x"}}}`, []string{"web", "", "web"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "containers", id)
			require.NoError(t, os.MkdirAll(dir, 0o755))
			file := filepath.Join(dir, "config.v2.json")
			switch tc.config {
			case "":
			case "pipe":
				require.NoError(t, syscall.Mkfifo(file, 0o600))
				writer, err := os.OpenFile(file, os.O_RDWR, 0) // which says nothing
				require.NoError(t, err)
				defer writer.Close()
			default:
				require.NoError(t, os.WriteFile(file, []byte(tc.config), 0o600))
			}
			s := newSource(0, Source{Format: FormatDocker}, 1024, newMetrics(newRegistry()))
			path := filepath.Join(dir, id+"-json.log")
			a := s.originOf(path, "host").attributes
			require.Equal(t, tc.want, []string{a["container.name"], a["container.image.name"], a["service.name"]})
			require.Equal(t, id, a["service.instance.id"])
		})
	}
}
