// http in Go, on bare connections without net/http. Question, method and traps: see client.c.
package main

import (
	"bytes"
	"schbench"
	"schbench/echo/server"
)

var answer = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\n" +
	"Hello, World!\n")
var answers = bytes.Repeat(answer, 16384/4)

func http() server.Reply {
	seen := 0 // how much of an empty line
	return func(in []byte) []byte {
		requests := 0
		for _, c := range in {
			if c == "\r\n\r\n"[seen] {
				seen++
			} else if c == '\r' {
				seen = 1
			} else {
				seen = 0
			}
			if seen == 4 {
				seen = 0
				requests++
			}
		}
		return answers[:requests*len(answer)]
	}
}

func main() {
	schbench.New("http", 1, "c64", "c256")
	server.Serve(http)
}
