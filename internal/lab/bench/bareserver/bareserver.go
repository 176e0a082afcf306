// Package bareserver runs the yardstick for the daemon's faces, the program bare.
package bareserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

// Server answers every request with the same body, on a socket and on a port.
type Server struct {
	Socket string
	Addr   string // of the port, on loopback
	cmd    *exec.Cmd
}

// Start runs a server of body; name is that of its socket in the lab.
func Start(ctx context.Context, l *lab.Lab, name string, body []byte) (*Server, error) {
	s := &Server{Socket: filepath.Join(l.Dir, "bare-"+name)}
	s.cmd = exec.CommandContext(ctx, l.Program("bare"), s.Socket)
	s.cmd.Stdin, s.cmd.Stderr = bytes.NewReader(body), os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bare server: %w", err), s.Stop())
	}
	s.Addr = strings.TrimSpace(addr)
	return s, nil
}

// Stop ends it.
func (s *Server) Stop() error {
	err := s.cmd.Process.Kill()
	_ = s.cmd.Wait() // killed
	return err
}
