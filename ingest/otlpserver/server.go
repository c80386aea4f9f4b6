package otlpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/internal/config"
)

// Options are what a Server is made of.
type Options struct {
	Config Config
	Entry  *door.Entry // opened with Config.Limits; its door knows FormatOTLP, FormatOTLPTraces and FormatOTLPLogs of buffer

	// Methods are served over gRPC besides OTLP's, by path.
	Methods map[string]Method

	// Ready reports whether requests may come in yet; nil is always.
	Ready func() bool
	// BearerToken is wanted from every client, but for health checks; empty wants
	// none.
	BearerToken *config.LiveSecret

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Server serves OTLP on listeners of its own. It is open from Open on, and
// serves while Run does.
type Server struct {
	log      *slog.Logger
	receiver *receiver
	grpc     *service // nil if it is disabled
	http     *service

	requests       context.Context // of all requests
	cancelRequests context.CancelFunc
	stopped        chan struct{}
	stop           sync.Once
}

// service is a listener and what serves it.
type service struct {
	listener net.Listener
	server   *http.Server
}

// Open listens and starts nothing.
func Open(ctx context.Context, o Options) (*Server, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("open otlp server: %w", err)
	}
	s := &Server{log: o.Logger, stopped: make(chan struct{})}
	s.receiver = &receiver{entry: o.Entry, metrics: newMetrics(o.Registerer)}
	s.requests, s.cancelRequests = context.WithCancel(context.Background())
	g := newGate(o.Ready, o.BearerToken)
	var err error
	if s.http, err = s.listen(ctx, o.Config.HTTP.Listen, httpHandler(s.receiver, g, o.Config.HTTP.AllowedOrigins)); err != nil {
		return nil, errors.Join(fmt.Errorf("open otlp server: http: %w", err), s.Close())
	}
	calls := &grpcReceiver{receiver: s.receiver, gate: g, methods: o.Methods}
	if s.http != nil {
		calls.elsewhere = fmt.Sprintf("; OTLP over HTTP is served by http://%s at %s", s.http.listener.Addr(), listed("and", func(k *kind) string { return k.path }))
	}
	if s.grpc, err = s.listen(ctx, o.Config.GRPC.Listen, calls); err != nil {
		return nil, errors.Join(fmt.Errorf("open otlp server: grpc: %w", err), s.Close())
	}
	for _, v := range s.services() {
		if tcp, ok := v.listener.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && !o.BearerToken.IsSet() {
			o.Logger.Warn("other machines can reach this listener and nothing asks who they are: set http.bearer_token or listen on loopback", "listen", tcp.String())
		}
	}
	return s, nil
}

// listen returns nil for no address.
func (s *Server) listen(ctx context.Context, address string, handler http.Handler) (*service, error) {
	if address == "" {
		return nil, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &service{l, &http.Server{
		Handler:           handler,
		Protocols:         &protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute, // exporters send once a minute
		MaxHeaderBytes:    64 << 10,
		// What a connection may send before its requests are read, and what nobody
		// has charged to the door yet.
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          100,
			MaxReceiveBufferPerStream:     256 << 10,
			MaxReceiveBufferPerConnection: 1 << 20,
			MaxReadFrameSize:              64 << 10,
		},
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return s.requests },
	}}, nil
}

func (s *Server) services() []*service {
	var all []*service
	for _, v := range []*service{s.grpc, s.http} {
		if v != nil {
			all = append(all, v)
		}
	}
	return all
}

// Handler is the endpoint that OTLP/HTTP has at path, MetricsPath, TracesPath or
// LogsPath, for another listener, which asks for the token and waits until the server is
// ready.
func (s *Server) Handler(path string) http.Handler {
	k := kindOf(func(k *kind) bool { return k.path == path })
	if k == nil {
		panic("BUG: no kind of telemetry at " + path)
	}
	return httpReceiver{s.receiver, k}
}

// GRPCAddr returns where gRPC is served, or nil.
func (s *Server) GRPCAddr() net.Addr { return s.grpc.addr() }

// HTTPAddr returns where HTTP is served, or nil.
func (s *Server) HTTPAddr() net.Addr { return s.http.addr() }

func (v *service) addr() net.Addr {
	if v == nil {
		return nil
	}
	return v.listener.Addr()
}

// Run serves until Stop has drained the server, or until ctx ends, which cancels
// requests under way.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	ended := make(chan error, 2)
	for _, v := range s.services() {
		wg.Go(func() {
			if err := v.server.Serve(v.listener); !errors.Is(err, http.ErrServerClosed) {
				ended <- fmt.Errorf("serve otlp at %s: %w", v.listener.Addr(), err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case <-s.stopped:
	case err = <-ended:
	}
	err = errors.Join(err, s.Close())
	wg.Wait()
	return err
}

// Stop accepts nothing new, gives requests under way the time until ctx ends,
// and cancels the others.
func (s *Server) Stop(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, v := range s.services() {
		wg.Go(func() {
			if err := v.server.Shutdown(ctx); err != nil {
				s.log.Warn("cancel requests that have not ended in time", "listen", v.listener.Addr().String(), "err", err)
			}
		})
	}
	wg.Wait()
	err := s.Close()
	s.stop.Do(func() { close(s.stopped) })
	return err
}

// Close closes the listeners and all connections at once. Run does so itself.
func (s *Server) Close() error {
	s.cancelRequests()
	var errs []error
	for _, v := range s.services() {
		errs = append(errs, v.server.Close())
		if err := v.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
