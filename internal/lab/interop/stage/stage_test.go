package stage

import "testing"

// The one thing that must never happen: the platform's addresses on the network
// of the machine. A test's process is not one that Start has started.
func TestCheckOwnRefusesOrdinaryProcess(t *testing.T) {
	if err := checkOwn(); err == nil {
		t.Error("a process on the machine's own network may build a stage")
	}
}
