package torture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a place for one process after another: when one is killed the next begins.
type process struct {
	service string
	args    []string
	log     io.Writer

	mu      sync.Mutex
	command *exec.Cmd
	stdin   io.Closer
	address string        // empty: it does not serve
	serving chan struct{} // closed when it does
	ended   chan struct{} // closed when it has ended, with
	err     error
}

// start starts the next process.
func (p *process) start(suicide string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, append([]string{Child, suicide}, p.args...)...)
	cmd.Stderr = p.log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.command, p.stdin, p.serving, p.ended = cmd, stdin, make(chan struct{}), make(chan struct{})
	go p.watch(cmd, stdout, p.serving, p.ended)
	return nil
}

// watch hears where the process serves, and when it ends.
func (p *process) watch(cmd *exec.Cmd, stdout io.Reader, serving, ended chan struct{}) {
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), announcement); ok {
			p.mu.Lock()
			p.address = strings.TrimPrefix(url, "http://")
			p.mu.Unlock()
			close(serving)
		}
	}
	err := cmd.Wait()
	p.mu.Lock()
	p.address, p.err = "", err
	p.mu.Unlock()
	close(ended)
}

// end is how a process ended.
type end int

const (
	killed    end = iota
	stillborn     // killed before it served
	suicide       // right after a commit
	broken        // by itself
)

// live lets the process live for a time, and kills it, unless it does so itself. If early it need not serve by then.
func (p *process) live(ctx context.Context, span time.Duration, early bool) (end, error) {
	p.mu.Lock()
	serving, ended, cmd := p.serving, p.ended, p.command
	p.mu.Unlock()
	if !early {
		select {
		case <-serving:
		case <-ended:
		case <-ctx.Done():
		}
	}
	how := killed
	select {
	case <-ended:
		how = suicide
	case <-time.After(span):
	case <-ctx.Done():
	}
	select {
	case <-serving:
	default:
		if how == killed {
			how = stillborn
		}
	}
	_ = cmd.Process.Kill() // it may have been quicker
	<-ended
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return how, nil
		}
	}
	return broken, fmt.Errorf("a process of %s ended by itself: %w", p.service, p.err)
}

// finish ends the last process in order.
func (p *process) finish() error {
	p.mu.Lock()
	stdin, ended, cmd := p.stdin, p.ended, p.command
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	_ = stdin.Close()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		<-ended
		return fmt.Errorf("the process of %s does not close", p.service)
	}
	if p.err != nil {
		return fmt.Errorf("the process of %s ended: %w", p.service, p.err)
	}
	return nil
}

// clientOf makes an HTTP client that talks to whichever of the processes serves.
func clientOf(processes []*process) (*http.Client, func()) {
	var mu sync.Mutex
	next := 0
	transport := &http.Transport{
		MaxIdleConnsPerHost: 100,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			mu.Lock()
			next++
			turn := next
			mu.Unlock()
			for k := range processes {
				p := processes[(turn+k)%len(processes)]
				p.mu.Lock()
				address := p.address
				p.mu.Unlock()
				if address != "" {
					return (&net.Dialer{}).DialContext(ctx, network, address)
				}
			}
			return nil, errors.New("nobody is at home")
		},
	}
	return &http.Client{Transport: patient{transport}}, transport.CloseIdleConnections
}

// patient does not come back at once when it is told to wait.
type patient struct{ http.RoundTripper }

func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := p.RoundTripper.RoundTrip(r)
	if err == nil && response.Header.Get("Retry-After") != "" {
		time.Sleep(200 * time.Millisecond)
	}
	return response, err
}
