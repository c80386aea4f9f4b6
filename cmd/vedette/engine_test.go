package main

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/vedette-io/vedette/collector/container/enginetest"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// A service in a container of a real Docker: what it uses, its requests and its
// lines are there under the engine's names.
func TestE2EDocker(t *testing.T) {
	skipShort(t)
	d := enginetest.StartDocker(t)
	web := d.Guest(t, "web", "127.0.0.1:0", "--network=host", "--label=com.docker.compose.project=shop", "--label=com.docker.compose.service=front")
	p := start(t, t.TempDir(), "--config", agentFile(t, fmt.Sprintf(`
collect:
  interval: 1s
  containers: {rescan_interval: 1s, docker_sockets: [%q], labels: [com.docker.compose.project]}
  logs: {sources: [{include: ["%s/data/containers/*/*-json.log"], format: docker, start: beginning}]}
`, d.Socket, d.Dir)))
	// Later containers are met while Vedette runs.
	late := d.Guest(t, "late", "127.0.0.1:0", "--network=host")
	p.finds(`container_cpu_usage_seconds_total{name="web",image="` + enginetest.Image + `",container_label_com_docker_compose_project="shop"}`)
	p.finds(`container_memory_working_set_bytes{id="/docker/` + web.ID + `",name="web"} > 0`)
	p.finds(`container_last_seen{name="late"}`)
	const lines = 20
	web.Tell(t, "/log?n=%d&size=20", lines)
	p.counts(`vedette_ingest_kept_log_records_total{service="front"}`, lines)

	p.loaded("http")
	client := featuretest.NewClient(t, true)
	const n = 20
	for range n {
		for _, g := range []*enginetest.Guest{web, late} {
			if err := ask(client, "http://"+g.Address(t)+"/hello", "", http.StatusOK); err != nil {
				t.Error(err)
			}
		}
	}
	p.counts(`http_server_request_duration_seconds_count{container_id="`+web.ID+`",container_name="web",service_name="front",http_response_status_code="200"}`, n)
	p.counts(`http_server_request_duration_seconds_count{container_id="`+late.ID+`",container_name="late",service_name="guest",http_response_status_code="200"}`, n)
	p.stop()
}
