package container

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// Labels and annotations that say what a pod's service is called, by the rules of
// OpenTelemetry's conventions for Kubernetes.
const (
	annotationService = "resource.opentelemetry.io/service.name"
	labelInstance     = "app.kubernetes.io/instance"
	labelAppName      = "app.kubernetes.io/name"
)

// Annotations by which the kubelet tells static pods.
const (
	annotationSource = "kubernetes.io/config.source"
	annotationHash   = "kubernetes.io/config.hash"
)

// kubelet asks the kubelet for the pods of its node, and where the kubelet does
// not say, the cluster's API server.
type kubelet struct {
	cfg KubeletConfig
	env func(string) string
}

func newKubelet(cfg KubeletConfig) *kubelet { return &kubelet{cfg, os.Getenv} }

const kubeletName = "kubelet"

func (k *kubelet) name() string { return kubeletName }

func (k *kubelet) ask(ctx context.Context, q *question) (*catalog, error) {
	answer, err := k.ofKubelet(ctx, q)
	if err == nil {
		return answer, nil
	}
	if k.env("KUBERNETES_SERVICE_HOST") == "" || k.env("NODE_NAME") == "" {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	api := url.URL{
		Scheme: "https", Host: net.JoinHostPort(k.env("KUBERNETES_SERVICE_HOST"), cmp.Or(k.env("KUBERNETES_SERVICE_PORT"), "443")),
		Path: "/api/v1/pods", RawQuery: url.Values{
			"fieldSelector":   {"spec.nodeName=" + k.env("NODE_NAME")},
			"resourceVersion": {"0"}, // from the API server's memory: every node asks
		}.Encode(),
	}
	answer, again := k.pods(ctx, api.String(), &tls.Config{}, q)
	if again != nil {
		// In a cluster a refused connection does not mean that there is no kubelet.
		return nil, fmt.Errorf("list pods at the kubelet: %v; at the API server: %v", err, again)
	}
	return answer, nil
}

func (k *kubelet) ofKubelet(ctx context.Context, q *question) (*catalog, error) {
	address, err := url.Parse(k.cfg.URL)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{InsecureSkipVerify: k.cfg.InsecureSkipVerify}
	if node := k.env("NODE_NAME"); node != "" && !conf.InsecureSkipVerify {
		// The cluster signs for the node's name and address, not for the loopback's.
		conf.InsecureSkipVerify = true
		conf.VerifyConnection = func(s tls.ConnectionState) error {
			// The connection's own name is empty for an address.
			err := verify(s, conf.RootCAs, address.Hostname())
			if err == nil {
				return nil
			}
			if again := verify(s, conf.RootCAs, node); again != nil {
				return fmt.Errorf("%w; as the node's: %w", err, again)
			}
			return nil
		}
	}
	return k.pods(ctx, address.JoinPath("pods").String(), conf, q)
}

// pods asks one of the two servers for pods.
func (k *kubelet) pods(ctx context.Context, address string, conf *tls.Config, q *question) (*catalog, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout) // one that hangs leaves time for the other
	defer cancel()
	answer := q.catalog()
	if err := k.get(ctx, address, conf, func(s *jsonStream) error { return decodePods(s, q, answer) }); err != nil {
		return nil, err
	}
	return answer, nil
}

// verify checks a server's certificate, as crypto/tls does, for a name.
func verify(s tls.ConnectionState, roots *x509.CertPool, name string) error {
	o := x509.VerifyOptions{Roots: roots, DNSName: name, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(o)
	return err
}

// get asks one of the two servers; conf says what else is wanted of its certificate.
func (k *kubelet) get(ctx context.Context, address string, conf *tls.Config, read func(*jsonStream) error) error {
	token := ""
	if k.cfg.TokenFile != "" {
		data, err := os.ReadFile(k.cfg.TokenFile)
		if err != nil && !strings.HasPrefix(address, "http:") {
			return fmt.Errorf("read token of kubelet: %w", err)
		}
		token = strings.TrimSpace(string(data))
	}
	conf.MinVersion = tls.VersionTLS12
	if pem, err := os.ReadFile(k.cfg.CAFile); err == nil {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("read %s: got no certificate", k.cfg.CAFile)
		}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
	return get(ctx, client, address, token, read)
}

// pod is what is read of a pod.
type pod struct {
	Metadata struct {
		Name, Namespace, UID string
		Annotations, Labels  map[string]string
		OwnerReferences      []struct {
			Kind, Name string
			Controller bool
		}
	}
	Spec   struct{ NodeName string }
	Status struct {
		ContainerStatuses, InitContainerStatuses, EphemeralContainerStatuses []containerStatus
	}
}

type containerStatus struct {
	Name        string `json:"name"`
	Image       string `json:"image"`
	ContainerID string `json:"containerID"`
}

// workload names what the pod belongs to: the Deployment above a ReplicaSet, the
// CronJob above a Job, else its controller.
func (p *pod) workload() string {
	for _, o := range p.Metadata.OwnerReferences {
		switch {
		case !o.Controller:
		case o.Kind == "ReplicaSet":
			return strings.TrimSuffix(o.Name, "-"+p.Metadata.Labels["pod-template-hash"])
		case o.Kind == "Job":
			// a CronJob's are called after it and the minute they are of
			if i := strings.LastIndexByte(o.Name, '-'); i > 0 && len(o.Name)-i > 8 && strings.Trim(o.Name[i+1:], "0123456789") == "" {
				return o.Name[:i]
			}
			return o.Name
		case o.Kind == "Node": // a static pod: its name without the node's
			return strings.TrimSuffix(p.Metadata.Name, "-"+o.Name)
		default:
			return o.Name
		}
	}
	// The kubelet has static pods without the owner that the API server's have.
	if source := p.Metadata.Annotations[annotationSource]; source != "" && source != "api" && p.Spec.NodeName != "" {
		return strings.TrimSuffix(p.Metadata.Name, "-"+p.Spec.NodeName)
	}
	return ""
}

func decodePods(s *jsonStream, q *question, k *catalog) error {
	listed := false
	err := s.members(func(key string) (bool, error) {
		if key != "items" {
			return false, nil
		}
		listed = true
		return true, each(s, func(p *pod) { p.addTo(k, q) })
	})
	if err == nil && !listed {
		err = errors.New("got no list")
	}
	if err != nil {
		return fmt.Errorf("decode list of pods: %w", err)
	}
	return nil
}

// addTo adds a pod and its containers to an answer.
func (p *pod) addTo(k *catalog, q *question) {
	m := meta{
		Pod: p.Metadata.Name, Namespace: p.Metadata.Namespace, Labels: q.pick(p.Metadata.Labels), Workload: p.workload(),
		Service: cmp.Or(p.Metadata.Annotations[annotationService], p.Metadata.Labels[labelInstance], p.Metadata.Labels[labelAppName]),
	}
	k.pods[p.Metadata.UID] = m
	if mirror := p.Metadata.Annotations[annotationHash]; mirror != "" {
		k.pods[mirror] = m // static pods run under the hash of their file
	}
	for _, statuses := range [...][]containerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for _, s := range statuses {
			_, id, ok := strings.Cut(s.ContainerID, "://")
			if !ok {
				continue // not started yet
			}
			own := m
			own.Container, own.Image = s.Name, s.Image
			q.add(k, id, own)
		}
	}
}
