package clustertest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// plurals are the names of kinds in paths, and whether they are outside of
// namespaces.
var plurals = map[string]struct {
	name   string
	global bool
}{
	"ClusterRole": {"clusterroles", true}, "ClusterRoleBinding": {"clusterrolebindings", true}, "ConfigMap": {"configmaps", false},
	"CronJob": {"cronjobs", false}, "DaemonSet": {"daemonsets", false}, "Deployment": {"deployments", false}, "Endpoints": {"endpoints", false},
	"EndpointSlice": {"endpointslices", false}, "Ingress": {"ingresses", false}, "Job": {"jobs", false}, "Namespace": {"namespaces", true}, "Pod": {"pods", false},
	"ReplicaSet": {"replicasets", false}, "Secret": {"secrets", false}, "Service": {"services", false},
	"ServiceAccount": {"serviceaccounts", false}, "StatefulSet": {"statefulsets", false},
}

// object is what every object of the API has.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name, Namespace, UID string
	} `json:"metadata"`
}

// path is where the API has the object.
func (o *object) path() (string, error) {
	plural, ok := plurals[o.Kind]
	if !ok {
		return "", fmt.Errorf("apply %s %s: the kind has no plural here", o.Kind, o.Metadata.Name)
	}
	path := "/apis/" + o.APIVersion
	if !strings.Contains(o.APIVersion, "/") {
		path = "/api/" + o.APIVersion
	}
	if !plural.global {
		namespace := o.Metadata.Namespace
		if namespace == "" {
			namespace = "default"
		}
		path += "/namespaces/" + namespace
	}
	return path + "/" + plural.name + "/" + o.Metadata.Name, nil
}

// request talks to the API server as one who may do everything.
func (c *Cluster) request(method, address, contentType string, body []byte) ([]byte, error) {
	r, err := http.NewRequest(method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.admin)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	resp, err := c.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: got status %s: %s", method, address, resp.Status, data)
	}
	return data, err
}

// Get reads an object, whose path is as in /api/v1/namespaces/default/pods/web-0.
func (c *Cluster) Get(path string, into any) error {
	data, err := c.request(http.MethodGet, c.API+path, "", nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// Delete deletes an object at once.
func (c *Cluster) Delete(path string) {
	c.t.Helper()
	if _, err := c.request(http.MethodDelete, c.API+path+"?gracePeriodSeconds=0", "", nil); err != nil {
		c.t.Fatal(err)
	}
}

// Apply makes or changes the objects of a manifest, and gives their UIDs by kind and
// name, as in Deployment/shop.
func (c *Cluster) Apply(manifest string) map[string]string {
	c.t.Helper()
	uids, err := c.apply(manifest, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return uids
}

// DryRun asks the API server what it would make of a manifest; a field that it does
// not know is an error. Namespaces of the manifest must be there.
func (c *Cluster) DryRun(manifest string) error {
	_, err := c.apply(manifest, url.Values{"dryRun": {"All"}})
	return err
}

func (c *Cluster) apply(manifest string, query url.Values) (map[string]string, error) {
	uids := map[string]string{}
	full := url.Values{"fieldManager": {"test"}, "force": {"true"}, "fieldValidation": {"Strict"}}
	for k, v := range query {
		full[k] = v
	}
	for d := yaml.NewDecoder(strings.NewReader(manifest)); ; {
		var any map[string]any
		if err := d.Decode(&any); errors.Is(err, io.EOF) {
			return uids, nil
		} else if err != nil {
			return nil, err
		}
		text, err := json.Marshal(any)
		if err != nil {
			return nil, err
		}
		var o object
		if err := json.Unmarshal(text, &o); err != nil {
			return nil, err
		}
		path, err := o.path()
		if err != nil {
			return nil, err
		}
		answer, err := c.request(http.MethodPatch, c.API+path+"?"+full.Encode(), "application/apply-patch+yaml", text)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(answer, &o); err != nil {
			return nil, err
		}
		uids[o.Kind+"/"+o.Metadata.Name] = o.Metadata.UID
	}
}

// SetStatus writes the status of an object, as a controller or a kubelet does.
func (c *Cluster) SetStatus(path string, status any) error {
	text, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	_, err = c.request(http.MethodPatch, c.API+path+"/status", "application/merge-patch+json", text)
	return err
}

// Token gives a token of a service account that is good for so long; ten minutes are
// the least that the API server takes.
func (c *Cluster) Token(namespace, account string, life time.Duration) string {
	c.t.Helper()
	body := fmt.Sprintf(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":%d}}`, int(life.Seconds()))
	data, err := c.request(http.MethodPost, c.API+"/api/v1/namespaces/"+namespace+"/serviceaccounts/"+account+"/token", "application/json", []byte(body))
	if err != nil {
		c.t.Fatal(err)
	}
	var answer struct{ Status struct{ Token string } }
	if err := json.Unmarshal(data, &answer); err != nil || answer.Status.Token == "" {
		c.t.Fatalf("ask for a token of %s/%s: got %s (%v)", namespace, account, data, err)
	}
	return answer.Status.Token
}

// Expired makes of a token one that ran out an hour ago, with the cluster's key.
func (c *Cluster) Expired(token string) string {
	c.t.Helper()
	parts := strings.Split(token, ".")
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		c.t.Fatal(err)
	}
	var all map[string]any
	d := json.NewDecoder(bytes.NewReader(claims))
	d.UseNumber()
	if err := d.Decode(&all); err != nil {
		c.t.Fatal(err)
	}
	now := time.Now().Unix()
	all["exp"], all["iat"], all["nbf"] = now-3600, now-7200, now-7200
	if claims, err = json.Marshal(all); err != nil {
		c.t.Fatal(err)
	}
	text := parts[0] + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, c.accounts, sum[:])
	if err != nil {
		c.t.Fatal(err)
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// populate makes what controllers make in every cluster: the service account default
// and the certificate of the API server, in the namespaces default and kube-system.
func (c *Cluster) populate() error {
	return c.poll(func() error { // the namespaces are made by the API server itself, in its time
		for _, namespace := range []string{"default", "kube-system"} {
			if _, err := c.apply(c.ofNamespace(namespace), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *Cluster) ofNamespace(name string) string {
	return fmt.Sprintf(`
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: %[1]s}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: kube-root-ca.crt, namespace: %[1]s}, data: {ca.crt: %[2]q}}
`, name, c.ca.pem())
}

// Namespace makes a namespace with what every one has.
func (c *Cluster) Namespace(name string) {
	c.t.Helper()
	c.Apply("{apiVersion: v1, kind: Namespace, metadata: {name: " + name + "}}\n---\n" + c.ofNamespace(name))
}

// Pod is what tests ask of a pod.
type Pod struct {
	Metadata struct{ Name, Namespace, UID string }
	Status   struct {
		Phase                                                                string
		ContainerStatuses, InitContainerStatuses, EphemeralContainerStatuses []ContainerStatus
	}
}

// ContainerStatus is what tests ask of a container of a pod.
type ContainerStatus struct {
	Name, ContainerID string
	State             map[string]any
}

// ContainerID is the id of a container of the pod, without the runtime's name.
func (p *Pod) ContainerID(name string) string {
	for _, s := range slices.Concat(p.Status.ContainerStatuses, p.Status.InitContainerStatuses, p.Status.EphemeralContainerStatuses) {
		if _, id, ok := strings.Cut(s.ContainerID, "://"); ok && s.Name == name {
			return id
		}
	}
	return ""
}

// Debug adds a container to a running pod, as kubectl debug does.
func (c *Cluster) Debug(namespace, pod, name, target string) {
	c.t.Helper()
	text := fmt.Sprintf(`{"spec":{"ephemeralContainers":[{"name":%q,"image":%q,"imagePullPolicy":"Never","targetContainerName":%q}]}}`, name, Image, target)
	address := c.API + "/api/v1/namespaces/" + namespace + "/pods/" + pod + "/ephemeralcontainers"
	if _, err := c.request(http.MethodPatch, address, "application/strategic-merge-patch+json", []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// Running waits until all containers of a pod run.
func (c *Cluster) Running(namespace, name string) *Pod {
	c.t.Helper()
	var pod Pod
	err := c.poll(func() error {
		pod = Pod{}
		if err := c.Get("/api/v1/namespaces/"+namespace+"/pods/"+name, &pod); err != nil {
			return err
		}
		running := 0
		for _, s := range pod.Status.ContainerStatuses {
			if _, ok := s.State["running"]; ok {
				running++
			}
		}
		if pod.Status.Phase != "Running" || running < len(pod.Status.ContainerStatuses) {
			return fmt.Errorf("pod %s/%s is %s: %v", namespace, name, pod.Status.Phase, pod.Status.ContainerStatuses)
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return &pod
}

// Gone waits until an object is gone.
func (c *Cluster) Gone(path string) {
	c.t.Helper()
	err := c.poll(func() error {
		var any any
		if err := c.Get(path, &any); err != nil && strings.Contains(err.Error(), "404") {
			return nil
		} else if err != nil {
			return err
		}
		return errors.New(path + " is still there")
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// signRequests approves and signs what the kubelet asks for. It fails until a request
// was there.
func (c *Cluster) signRequests() error {
	const path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct {
				SignerName string
				Request    []byte
			}
			Status struct{ Certificate []byte }
		}
	}
	if err := c.Get(path, &list); err != nil {
		return err
	}
	signed := false
	for _, item := range list.Items {
		if item.Spec.SignerName != "kubernetes.io/kubelet-serving" || len(item.Status.Certificate) > 0 {
			continue
		}
		approved := []any{map[string]any{"type": "Approved", "status": "True", "reason": "Test", "message": "approved"}}
		text, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": approved}})
		if err != nil {
			return err
		}
		if _, err := c.request(http.MethodPatch, c.API+path+"/"+item.Metadata.Name+"/approval", "application/merge-patch+json", text); err != nil {
			return err
		}
		certificate, err := c.ca.signRequest(item.Spec.Request)
		if err != nil {
			return err
		}
		if err := c.SetStatus(path+"/"+item.Metadata.Name, map[string]any{"certificate": certificate}); err != nil {
			return err
		}
		signed = true
	}
	if !signed {
		return errors.New("the kubelet has not asked for a certificate yet")
	}
	return nil
}
