package clustertest

import "testing"

// A pod runs, and is gone when it is deleted; the cluster leaves nothing.
func TestClusterStart(t *testing.T) {
	c := Start(t)
	c.Apply(`
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default}
spec:
  nodeName: ` + c.Node + `
  hostNetwork: true
  containers: [{name: app, image: ` + Image + `, imagePullPolicy: Never}]
`)
	if p := c.Running("default", "web"); p.ContainerID("app") == "" {
		t.Errorf("got no id of the container: %+v", p)
	}
	c.Delete("/api/v1/namespaces/default/pods/web")
	c.Gone("/api/v1/namespaces/default/pods/web")
}
