package postgres_test

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// proxy stands between a pool and the server, and cuts connections at chosen moments.
type proxy struct {
	listener net.Listener
	server   string
	all      sync.WaitGroup

	cuts atomic.Int32 // how many connections have been cut

	mu    sync.Mutex
	conns map[net.Conn]bool
	down  bool
	cut   cut
	in    int // how many messages more until the cut
}

// cut is when a connection is cut.
type cut int

const (
	never  cut = iota
	before     // the server gets the message
	after      // the server has done what it says, but before its answer comes
)

// cutIn cuts the connection that carries the next message but n to the server.
func (p *proxy) cutIn(n int, c cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.in = c, n
}

// next says whether to cut at this message.
func (p *proxy) next() cut {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut == never || p.in > 0 {
		p.in--
		return never
	}
	c := p.cut
	p.cut = never
	return c
}

func newProxy(tb testing.TB, serverURL string) *proxy {
	tb.Helper()
	u, err := url.Parse(serverURL)
	require.NoError(tb, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	p := &proxy{listener: l, server: u.Host, conns: map[net.Conn]bool{}}
	p.all.Go(p.accept)
	tb.Cleanup(func() {
		_ = l.Close()
		p.setDown(true)
		p.all.Wait()
	})
	return p
}

// through configures a pool so that it goes through the proxy.
func (p *proxy) through(c *pgxpool.Config) {
	a := p.listener.Addr().(*net.TCPAddr)
	c.ConnConfig.Host, c.ConnConfig.Port = a.IP.String(), uint16(a.Port)
	c.ConnConfig.TLSConfig, c.ConnConfig.Fallbacks = nil, nil // so that each answer ends with "ready"
}

// setDown ends all connections, and takes none while it is down.
func (p *proxy) setDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	if down {
		for c := range p.conns {
			_ = c.Close()
		}
	}
}

func (p *proxy) accept() {
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
	proxy          *proxy
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
		switch w.proxy.next() {
		case before:
			w.proxy.cuts.Add(1)
			return
		case after:
			w.swallow.Store(true)
		}
		if _, err := w.server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// down carries what the server says. One that swallows ends when the server is ready for more: it has done all it was told.
func (w *wire) down() {
	defer w.close()
	ready := []byte{'Z', 0, 0, 0, 5} // and whether it is in a transaction
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
		if len(end) > 0 && bytes.HasSuffix(end[:len(end)-1], ready) {
			w.proxy.cuts.Add(1)
			return
		}
	}
}
