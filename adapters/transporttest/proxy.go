package transporttest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy stands between a broker and its server, on an address of its own, so that connections can be cut, or what the broker says
// held back.
type Proxy struct {
	target   string
	listener net.Listener
	active   sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
	held  chan struct{} // closed by Release; nil: nothing is held back
}

// NewProxy makes a proxy for the server at target, which ends with the test.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{target: target, listener: l, conns: map[net.Conn]bool{}}
	p.active.Go(p.accept)
	tb.Cleanup(func() {
		_ = l.Close()
		p.Release()
		p.Cut()
		p.active.Wait()
	})
	return p
}

// Addr is where to connect to, as host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut ends all connections, and lets nobody connect until Restore.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.conns {
		_ = c.Close()
	}
}

// Restore takes connections again.
func (p *Proxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

// Hold holds back what clients say on any connection, as a server does that has stopped reading, until Release. What the server
// says comes through.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		p.held = make(chan struct{})
	}
}

// Release hands on what was held back, and what comes then.
func (p *Proxy) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
}

// toServer is what clients say.
type toServer struct {
	proxy  *Proxy
	server net.Conn
}

func (w toServer) Write(b []byte) (int, error) {
	w.proxy.mu.Lock()
	held := w.proxy.held
	w.proxy.mu.Unlock()
	if held != nil {
		<-held
	}
	return w.server.Write(b)
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.active.Go(func() { p.connect(client) })
	}
}

// connect carries what is said on a connection, until one side ends it.
func (p *Proxy) connect(client net.Conn) {
	defer p.end(client)
	if !p.begin(client) {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer p.end(server)
	if !p.begin(server) {
		return
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	_, _ = io.Copy(toServer{p, server}, client)
	_ = server.Close()
	answers.Wait()
}

// begin answers false while connections are cut.
func (p *Proxy) begin(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.cut {
		p.conns[c] = true
	}
	return !p.cut
}

func (p *Proxy) end(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}
