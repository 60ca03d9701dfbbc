// Package server is the server of echo, http and wake_socket in Go: one goroutine a connection, on
// the listening socket that the client made (descriptor 3).
package server

import (
	"net"
	"os"
)

// Reply makes what goes back from what came in; NewReply one for each connection.
type Reply func(in []byte) []byte
type NewReply func() Reply

func AcceptAll(listener net.Listener, newReply NewReply) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer conn.Close()
			reply := newReply()
			buffer := make([]byte, 16384)
			for {
				n, err := conn.Read(buffer)
				if err != nil {
					return
				}
				out := reply(buffer[:n])
				if len(out) == 0 {
					continue
				}
				if _, err := conn.Write(out); err != nil {
					return
				}
			}
		}()
	}
}

func Serve(newReply NewReply) {
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		panic(err)
	}
	AcceptAll(listener, newReply)
}
