package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
)

// FreePort is a loopback port that nobody listens at and that the kernel gives
// to nobody meanwhile: it is below those that the kernel chooses from. It dials
// rather than listens, because a child that is being forked keeps a listener
// for a moment after it was closed.
func FreePort() (int, error) {
	for range 100 {
		port := 20_000 + rand.N(10_000)
		if !taken(port) {
			return port, nil
		}
	}
	return 0, errors.New("lab: no loopback port is free")
}

func taken(port int) bool {
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return !errors.Is(err, syscall.ECONNREFUSED)
	}
	_ = c.Close()
	return true
}
