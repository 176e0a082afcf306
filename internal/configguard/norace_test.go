//go:build !race

package configguard

const raceEnabled = false
