// Command hello is the least that a Go program does: the yardstick for
// nbidentity.
package main

import "fmt"

func main() { fmt.Println("hello, world") }
