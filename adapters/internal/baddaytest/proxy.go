package baddaytest

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Proxy stands between a pool and the server, and cuts connections at chosen moments.
type Proxy struct {
	listener net.Listener
	server   string
	done     func(sent []byte) bool
	all      sync.WaitGroup

	Cuts atomic.Int32 // how many connections have been cut

	mu    sync.Mutex
	conns map[net.Conn]bool
	down  bool
	cut   Cut
	in    int    // how many messages more until the cut
	at    string // what the message that is cut has in it
}

// Cut is when a connection is cut.
type Cut int

const (
	Never  Cut = iota
	Before     // the server gets the message
	After      // the server has done what it says, but before its answer comes
)

// CutIn cuts the connection that carries the next message but n to the server.
func (p *Proxy) CutIn(n int, c Cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.in, p.at = c, n, ""
}

// CutAt cuts the connection that carries the next message to the server that has that text in it.
func (p *Proxy) CutAt(text string, c Cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.in, p.at = c, 0, text
}

// next says whether to cut at this message.
func (p *Proxy) next(message []byte) Cut {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut == Never || p.in > 0 || !bytes.Contains(message, []byte(p.at)) {
		p.in--
		return Never
	}
	c := p.cut
	p.cut = Never
	return c
}

// NewProxy makes one for the server at that address. done says, by what a server has sent since it got a message, whether it has done
// all that it was told.
func NewProxy(tb testing.TB, server string, done func(sent []byte) bool) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	p := &Proxy{listener: l, server: server, done: done, conns: map[net.Conn]bool{}}
	p.all.Go(p.accept)
	tb.Cleanup(func() {
		_ = l.Close()
		p.SetDown(true)
		p.all.Wait()
	})
	return p
}

// Addr is where it listens.
func (p *Proxy) Addr() *net.TCPAddr { return p.listener.Addr().(*net.TCPAddr) }

// SetDown ends all connections, and takes none while it is down.
func (p *Proxy) SetDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	if down {
		for c := range p.conns {
			_ = c.Close()
		}
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		if p.down {
			_, _ = client.Close(), server.Close()
		} else {
			p.conns[client], p.conns[server] = true, true
		}
		p.mu.Unlock()
		w := &wire{proxy: p, client: client, server: server}
		p.all.Go(w.up)
		p.all.Go(w.down)
	}
}

// wire is one connection.
type wire struct {
	proxy          *Proxy
	client, server net.Conn
	swallow        atomic.Bool
}

func (w *wire) close() {
	_, _ = w.client.Close(), w.server.Close()
	w.proxy.mu.Lock()
	defer w.proxy.mu.Unlock()
	delete(w.proxy.conns, w.client)
	delete(w.proxy.conns, w.server)
}

// up carries what the client says.
func (w *wire) up() {
	defer w.close()
	buf := make([]byte, 1<<20)
	for {
		n, err := w.client.Read(buf)
		if err != nil {
			return
		}
		switch w.proxy.next(buf[:n]) {
		case Before:
			w.proxy.Cuts.Add(1)
			return
		case After:
			w.swallow.Store(true)
		}
		if _, err := w.server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// down carries what the server says. One that swallows ends when the server has done all it was told.
func (w *wire) down() {
	defer w.close()
	buf := make([]byte, 64<<10)
	var end []byte
	for {
		n, err := w.server.Read(buf)
		if err != nil {
			return
		}
		if !w.swallow.Load() {
			if _, err := w.client.Write(buf[:n]); err != nil {
				return
			}
			continue
		}
		end = append(end, buf[:n]...)
		if w.proxy.done(end) {
			w.proxy.Cuts.Add(1)
			return
		}
	}
}
