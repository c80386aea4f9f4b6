package pushgateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/ingest/ingesttest"
	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/internal/vfs"
)

// again opens a second gateway over the same pipeline, as after a restart.
func (r *rig) again(t testing.TB, fsys vfs.FS) *rig {
	t.Helper()
	next, err := open(t, r.pipeline, fsys, nil)
	require.NoError(t, err)
	next.recorder = r.recorder
	return next
}

// Groups outlive a restart as they are: values, times, other tenants' too.
func TestRestart(t *testing.T) {
	fsys := vfs.NewMem()
	r := newRig(t, fsys, nil)
	r.want(t, 200, "PUT", "/metrics/job/x/instance@base64/=", "# HELP a Help.\n# TYPE a counter\na 1\nb{l=\"v\"} NaN\n")
	r.want(t, 200, "PUT", "/metrics/job/y", "c 1\n", tenant.Header, "team")
	r.want(t, 200, "PUT", "/metrics/job/gone", "c 1\n")
	r.want(t, 202, "DELETE", "/metrics/job/gone", "")
	r.want(t, 400, "PUT", "/metrics/job/bad", "c 1 1\n")
	r.take()

	next := r.again(t, fsys)
	for _, id := range []string{"default", "team"} {
		for _, path := range []string{"/metrics", "/api/v1/metrics"} {
			require.Equal(t, r.want(t, 200, "GET", path, "", tenant.Header, id), next.want(t, 200, "GET", path, "", tenant.Header, id))
		}
	}
	require.Contains(t, r.want(t, 200, "GET", "/metrics", ""), "# HELP a Help.\n# TYPE a counter\na{instance=\"\",job=\"x\"} 1\n")
	next.repeat(t.Context())
	require.Equal(t, []string{
		`team {__name__="c", job="y"} 1`, `{__name__="a", job="x"} 1`, `{__name__="b", job="x", l="v"} NaN:7ff8000000000001`,
	}, slices.DeleteFunc(next.take(), func(l string) bool { return strings.Contains(l, `"push_`) }))
	require.Positive(t, testutil.ToFloat64(next.metrics.lastPush))
	// What the groups hold still counts for others.
	next.want(t, 400, "PUT", "/metrics/job/z", "# TYPE a gauge\na 1\n")
	next.want(t, 202, "DELETE", "/metrics/job/x/instance@base64/=", "")
	next.want(t, 200, "PUT", "/metrics/job/z", "# TYPE a gauge\na 1\n")
}

// Whenever the power fails, the groups that were acknowledged are there, and
// the change under way has happened or has not.
func TestCrash(t *testing.T) {
	type content map[string]string // path to body
	type crash struct {
		fs      *vfs.Mem
		acked   content
		pending string // path
		next    string // body; "-" deletes
	}
	mem := vfs.NewMem()
	var crashes []crash
	var now crash
	fsys := vfs.Faulty(mem, func(vfs.Op) error {
		for seed := range uint64(3) {
			crashes = append(crashes, crash{mem.CrashClone(seed), maps.Clone(now.acked), now.pending, now.next})
		}
		return nil
	})
	r := newRig(t, fsys, nil)
	now.acked = content{}
	for i, op := range []struct{ method, path, body string }{
		{"PUT", "/metrics/job/a", "m 1\n"},
		{"PUT", "/metrics/job/b", "m 1\n"},
		{"PUT", "/metrics/job/a", "m 2\nn 2\n"},
		{"DELETE", "/metrics/job/b", "-"},
		{"PUT", "/metrics/job/a", "n 3\n"},
		{"PUT", "/metrics/job/b", "m 4\n"},
		{"DELETE", "/metrics/job/a", "-"},
		{"PUT", "/metrics/job/c", "o 5\n"},
	} {
		now.pending, now.next = op.path, op.body
		if op.method == "DELETE" {
			r.want(t, 202, op.method, op.path, "")
			delete(now.acked, op.path)
		} else {
			r.want(t, 200, op.method, op.path, op.body)
			now.acked[op.path] = op.body
		}
		now.pending = ""
		crashes = append(crashes, crash{mem.CrashClone(uint64(i)), maps.Clone(now.acked), "", ""})
	}
	require.Greater(t, len(crashes), 60)
	for i, c := range crashes {
		next := r.again(t, c.fs)
		require.Zero(t, testutil.ToFloat64(next.metrics.setAside), "crash %d", i)
		got := content{}
		for _, s := range next.list(tenant.Default) {
			body := ""
			for _, f := range s.state.sorted() {
				if name := f.proto.GetName(); !ownName(name) {
					body += fmt.Sprintf("%s %v\n", name, f.proto.Metric[0].Untyped.GetValue())
				}
			}
			got["/metrics/job/"+s.key.job()] = body
		}
		after := maps.Clone(c.acked)
		if c.pending != "" {
			if after[c.pending] = c.next; c.next == "-" {
				delete(after, c.pending)
			}
		}
		if !maps.Equal(got, c.acked) && !maps.Equal(got, after) {
			t.Fatalf("crash %d: got %v, want %v or %v", i, got, c.acked, after)
		}
	}
}

// If the disk fails, nothing is acknowledged and the group stays as it was.
func TestDiskFails(t *testing.T) {
	mem := vfs.NewMem()
	var broken vfs.OpKind
	var fail bool
	fsys := vfs.Faulty(mem, func(op vfs.Op) error {
		if fail && op.Kind == broken && strings.Contains(op.Name, "push") {
			return errors.New("i/o error")
		}
		return nil
	})
	r := newRig(t, fsys, nil)
	r.want(t, 200, "PUT", "/metrics/job/x", "a 1\n")
	before := r.shown(t)
	for _, tc := range []struct {
		kind   vfs.OpKind
		method string
	}{{vfs.OpCreate, "PUT"}, {vfs.OpWrite, "PUT"}, {vfs.OpSync, "POST"}, {vfs.OpRename, "PUT"}, {vfs.OpRename, "POST"}, {vfs.OpSyncDir, "PUT"}, {vfs.OpRemove, "DELETE"}} {
		broken, fail = tc.kind, true
		r.take()
		require.Contains(t, r.want(t, 500, tc.method, "/metrics/job/x", "b 1\n"), "i/o error")
		fail = false
		require.Equal(t, before, r.shown(t))
		// What was written already ends again.
		lines := r.take()
		require.Equal(t, slices.Contains(lines, `{__name__="b", job="x"} 1`), slices.Contains(lines, `{__name__="b", job="x"} stale`))
	}
	r.want(t, 200, "PUT", "/metrics/job/x", "b 1\n")
	require.Equal(t, []string{`{__name__="a", job="x"} stale`, `{__name__="b", job="x"} 1`}, r.takeBut())
	list, err := mem.List("push")
	require.NoError(t, err)
	require.Len(t, list, 1)
}

// A damaged file is set aside under a name that says so; the others serve.
func TestDamagedFiles(t *testing.T) {
	mem := vfs.NewMem()
	r := newRig(t, mem, nil)
	r.want(t, 200, "PUT", "/metrics/job/x", "a 1\n")
	r.want(t, 200, "PUT", "/metrics/job/y", "b 1\n")
	path := r.files.path(grouping{{Name: "job", Value: "x"}}.id(tenant.Default))
	good, err := vfs.ReadFile(mem, path)
	require.NoError(t, err)
	for i := range good {
		clone := mem.CrashClone(1)
		bad := slices.Clone(good)
		bad[i] ^= 0x10
		require.NoError(t, vfs.WriteFile(clone, path, bad))
		next := r.again(t, clone)
		require.Equal(t, 1.0, testutil.ToFloat64(next.metrics.setAside))
		require.Len(t, next.list(tenant.Default), 1)
		ok, err := vfs.Exists(clone, path+".corrupt")
		require.NoError(t, err)
		require.True(t, ok)
	}
	// A whole file under another name would be a group twice.
	require.NoError(t, vfs.WriteFile(mem, filepath.Join("push", strings.Repeat("0", 32)+".group"), good))
	require.NoError(t, vfs.WriteFile(mem, filepath.Join("push", "notes.txt"), good))
	require.NoError(t, vfs.WriteFile(mem, path+".tmp", good[:10]))
	next := r.again(t, mem)
	require.Equal(t, 1.0, testutil.ToFloat64(next.metrics.setAside))
	require.Len(t, next.list(tenant.Default), 2)
	list, err := mem.List("push")
	require.NoError(t, err)
	require.Len(t, list, 4)
}

// A file of version 1 as it was written stays readable for ever.
func TestGoldenFile(t *testing.T) {
	const golden = "testdata/v1.group"
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	gr, err := decodeGroup(want)
	require.NoError(t, err)
	require.Equal(t, "team", gr.tenant)
	require.Equal(t, grouping{{Name: "job", Value: "batch"}, {Name: "path", Value: "/var/tmp"}}, gr.key)
	require.Equal(t, time.Unix(1_700_000_000, 5), gr.state.pushed)
	require.Equal(t, time.Unix(1_700_000_060, 0), gr.state.failed)
	require.Len(t, gr.state.series, 5)
	got, err := encodeGroup(gr, gr.state)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// Between pushes the last values are written each interval, with the time of
// the repeat; a deleted group is not.
func TestRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, vfs.NewMem(), func(c *Config) { c.Interval = 15 * time.Second })
		r.want(t, 200, "PUT", "/metrics/job/x", "a 1\n")
		r.want(t, 200, "PUT", "/metrics/job/y", "b 1\n")
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { require.NoError(t, r.Run(ctx)) })
		defer wg.Wait()
		defer cancel()
		synctest.Wait()
		require.Len(t, r.takeBut(), 4, "the pushes and the first repeat")
		next := func() []string {
			time.Sleep(15 * time.Second)
			synctest.Wait()
			return r.take()
		}
		all := []string{
			`{__name__="a", job="x"} 1`, `{__name__="b", job="y"} 1`,
			`{__name__="push_failure_time_seconds", job="x"} 0`, `{__name__="push_failure_time_seconds", job="y"} 0`,
			`{__name__="push_time_seconds", job="x"} T`, `{__name__="push_time_seconds", job="y"} T`,
		}
		require.Equal(t, all, next())
		require.Equal(t, all, next())
		at := time.Now().UnixMilli()
		require.Contains(t, r.pipeline.Sink.Lines(), fmt.Sprintf(`default {__name__="a", job="x"} %d 1`, at))

		r.want(t, 202, "DELETE", "/metrics/job/y", "")
		r.take()
		require.Equal(t, []string{all[0], all[2], all[4]}, next())
		r.want(t, 202, "DELETE", "/metrics/job/x", "")
		r.take()
		require.Empty(t, next())
		require.Empty(t, r.tenants, "tenants without groups are forgotten")
		require.Zero(t, testutil.ToFloat64(r.metrics.repeatErrors))
		require.Equal(t, 5.0, testutil.ToFloat64(r.metrics.repeats))
	})
}

// Pushes to the same and to different groups at once: each group ends up with
// what one of them brought, and no series is in two groups.
func TestConcurrentPushes(t *testing.T) {
	fsys := vfs.NewMem()
	r := newRig(t, fsys, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var repeats sync.WaitGroup
	repeats.Go(func() {
		for ctx.Err() == nil {
			r.repeat(ctx)
		}
	})
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for i := range 15 {
				group := (w + i) % 4
				path := fmt.Sprintf("/metrics/job/j%d", group)
				switch i % 5 {
				case 4:
					if got := r.do("DELETE", path, ""); got.Code != 202 {
						t.Errorf("got %d: %s", got.Code, got.Body)
					}
				default:
					body := fmt.Sprintf("m{w=\"%d\"} %d\nn %d\n", w, i, i)
					if got := r.do([]string{"PUT", "POST"}[i%2], path, body); got.Code != 200 {
						t.Errorf("got %d: %s", got.Code, got.Body)
					}
				}
			}
		})
	}
	wg.Wait()
	cancel()
	repeats.Wait()
	again := r.again(t, fsys)
	require.Equal(t, r.want(t, 200, "GET", "/metrics", ""), again.want(t, 200, "GET", "/metrics", ""))
	require.Equal(t, r.series, again.series)
	require.Equal(t, r.groups, again.groups)
	for id, x := range r.tenants {
		require.Len(t, x.owners, r.series)
		require.Equal(t, x.types, again.tenants[id].types)
	}
	// The newest sample of every series says whether it is in a group.
	newest := map[string]string{}
	times := map[string]int64{}
	for _, l := range r.pipeline.Sink.Lines() {
		l = strings.TrimPrefix(l, "default ")
		name, rest, _ := strings.Cut(l, "} ")
		var at int64
		var value string
		_, err := fmt.Sscan(rest, &at, &value)
		require.NoError(t, err)
		require.False(t, at == times[name] && newest[name] != value, "two samples of one time: %s", l)
		if at >= times[name] {
			times[name], newest[name] = at, value
		}
	}
	alive := 0
	for _, v := range newest {
		if !strings.HasPrefix(v, "NaN:7ff0000000000002") {
			alive++
		}
	}
	require.Equal(t, r.series, alive)
}

// Two groups that want one series at the same time: one gets it.
func TestConcurrentClaims(t *testing.T) {
	r := newRig(t, vfs.NewMem(), nil)
	for range 20 {
		codes := make([]int, 2)
		var wg sync.WaitGroup
		for i, path := range []string{"/metrics/job/x", "/metrics/job/x/l/1"} {
			wg.Go(func() { codes[i] = r.do("PUT", path, "m{l=\"1\"} 1\n").Code })
		}
		wg.Wait()
		slices.Sort(codes)
		require.Equal(t, []int{200, 400}, codes)
		r.want(t, 202, "DELETE", "/metrics/job/x", "")
		r.want(t, 202, "DELETE", "/metrics/job/x/l/1", "")
	}
	require.Zero(t, r.series)
	require.Empty(t, r.tenants[tenant.Default].owners)
	require.Empty(t, r.tenants[tenant.Default].types)
}

// Whatever is pushed wherever, it is answered without a fault of ours, and what
// was taken is there after a restart.
func FuzzPush(f *testing.F) {
	f.Add("/job/x/a/b", "m 1\n", "", "", false)
	f.Add("/job@base64/eA/U__a_2e_b@base64/=", "{\"m.n\",\"a b\"=\"c\"} 1\n", "", "text/plain", true)
	f.Add("/job/x", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_count 1\n", "identity", "", false)
	f.Add("/job/x", "\x0a\x0a\x01m\x18\x01\x22\x03\x12\x01\x09", "", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", true)
	p := doortest.New(f, doortest.Options{Sink: &ingesttest.Sink{}, Config: func(c *door.Config) { c.MaxBodyBytes = 1 << 16 }})
	f.Fuzz(func(t *testing.T, path, body, encoding, contentType string, utf8Names bool) {
		fsys := vfs.NewMem()
		r, err := open(t, p, fsys, func(c *Config) { c.UTF8Names = utf8Names })
		require.NoError(t, err)
		key, ok, err := r.names.parseGrouping(strings.TrimPrefix(path, "/"))
		if !ok || err != nil {
			return
		}
		pushed, err := r.parseText([]byte(body))
		if isProtobuf(contentType) {
			pushed, err = r.parseProtobuf([]byte(body))
		}
		if err != nil {
			return
		}
		if _, err := unpack([]byte(body), encoding, 1<<16); err != nil {
			return
		}
		if err := r.push(t.Context(), tenant.Default, key, pushed, true); err != nil {
			if !isRefusal(err) {
				t.Fatal(err)
			}
			return
		}
		next, err := open(t, p, fsys, nil)
		require.NoError(t, err)
		require.Len(t, next.list(tenant.Default), 1)
		require.Equal(t, r.series, next.series)
	})
}

// Whatever a group's file holds, it is read or refused.
func FuzzDecodeGroup(f *testing.F) {
	seed, err := os.ReadFile("testdata/v1.group")
	require.NoError(f, err)
	f.Add(seed[headerSize:])
	f.Fuzz(func(t *testing.T, body []byte) {
		gr, err := decodeGroup(seal(append(make([]byte, headerSize), body...)))
		if err != nil {
			return
		}
		again, err := encodeGroup(gr, gr.state)
		require.NoError(t, err)
		same, err := decodeGroup(again)
		require.NoError(t, err)
		require.Equal(t, gr.id, same.id)
		require.Len(t, same.state.series, len(gr.state.series))
	})
}
