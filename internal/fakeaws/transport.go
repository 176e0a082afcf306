package fakeaws

import (
	"net/http"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/inprocess"
)

// The link-local addresses of the metadata endpoints.
const (
	imdsHost      = "169.254.169.254"
	imdsHostIPv6  = "fd00:ec2::254"
	containerHost = "169.254.170.2"
)

// Client is where calls through an in-process transport come from.
type Client struct {
	// Notebook is the instance that the metadata addresses belong to; "" = a
	// machine without instance metadata.
	Notebook string
	// Address is the client's IP address. Default 127.0.0.1.
	Address string
}

// Transport is TransportFor the first notebook instance of the scenario.
func (a *Account) Transport() http.RoundTripper {
	c := Client{}
	if s := a.current(); len(s.Notebooks) > 0 {
		c.Notebook = s.Notebooks[0].Name
	}
	return a.TransportFor(c)
}

// TransportFor reaches the account without sockets: the link-local metadata
// addresses as they are on c's machine, and every other host as the API. It
// works inside a testing/synctest bubble with simulated time.
func (a *Account) TransportFor(c Client) http.RoundTripper {
	if c.Address == "" {
		c.Address = "127.0.0.1"
	}
	return inprocess.Transport{
		RemoteAddr: c.Address + ":40000",
		Route: func(host string) http.Handler {
			switch host {
			case imdsHost, imdsHostIPv6:
				h, err := a.IMDS(c.Notebook)
				if err != nil {
					return nil
				}
				return h
			case containerHost:
				return a.container
			}
			return a.api
		},
	}
}
