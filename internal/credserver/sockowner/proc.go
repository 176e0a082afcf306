package sockowner

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strconv"
)

// read looks s up in the tables. An IPv4 connection of an IPv6 socket is in the
// second. A table is not read in one moment: a socket may be missed when others
// come and go, so it is looked for twice.
func (f *Finder) read(s socket) (entry, error) {
	for range 2 {
		for _, table := range []string{"tcp", "tcp6"} {
			if table == "tcp" && !s.local.Addr().Is4() {
				continue
			}
			e, ok, err := readTable(f.proc+"/"+table, s)
			if err != nil || ok {
				return e, err
			}
		}
	}
	return entry{}, ErrNoOwner
}

func readTable(path string, s socket) (entry, bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return entry{}, false, fmt.Errorf("reading the table of connections: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if e, ok := parseLine(lines.Bytes()); ok && e.socket == s {
			return e, true, nil
		}
	}
	if err := lines.Err(); err != nil {
		return entry{}, false, fmt.Errorf("reading the table of connections: %w", err)
	}
	return entry{}, false, nil
}

// parseLine reads "sl local remote st queues timer retransmits uid timeout inode …".
func parseLine(line []byte) (e entry, ok bool) {
	fields := bytes.Fields(line)
	if len(fields) < 10 {
		return e, false
	}
	if e.local, ok = parseAddr(fields[1]); !ok {
		return e, false
	}
	if e.remote, ok = parseAddr(fields[2]); !ok {
		return e, false
	}
	state, err := strconv.ParseUint(string(fields[3]), 16, 8)
	if err != nil {
		return e, false
	}
	uid, err := strconv.ParseUint(string(fields[7]), 10, 32)
	if err != nil {
		return e, false
	}
	inode, err := strconv.ParseUint(string(fields[9]), 10, 32)
	if err != nil {
		return e, false
	}
	e.state, e.uid, e.inode = uint8(state), uint32(uid), uint32(inode)
	return e, true
}

// parseAddr reads an address as the kernel prints it: the words of the address
// in hexadecimal, each as a number of this machine, and the port.
func parseAddr(b []byte) (netip.AddrPort, bool) {
	host, port, found := bytes.Cut(b, []byte(":"))
	n, err := strconv.ParseUint(string(port), 16, 16)
	if !found || err != nil || len(host) != 8 && len(host) != 32 {
		return netip.AddrPort{}, false
	}
	raw := make([]byte, len(host)/2)
	if _, err := hex.Decode(raw, host); err != nil {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		word := uint32(raw[i])<<24 | uint32(raw[i+1])<<16 | uint32(raw[i+2])<<8 | uint32(raw[i+3])
		nativeEndian.PutUint32(raw[i:], word)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), true
}
