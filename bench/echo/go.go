// echo in Go. Question, method and traps: see client.c.
package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"schbench"
	"schbench/echo/server"
)

const pairs = 64
const selfSize = 64

func echo() server.Reply {
	return func(in []byte) []byte { return in }
}

func ask(conn net.Conn, ops int, done chan<- int) {
	message := bytes.Repeat([]byte{'a'}, selfSize)
	back := make([]byte, selfSize)
	for i := 0; i < ops; i++ {
		binary.LittleEndian.PutUint64(message, uint64(i))
		if _, err := conn.Write(message); err != nil {
			panic(err)
		}
		if _, err := io.ReadFull(conn, back); err != nil {
			panic(err)
		}
		if !bytes.Equal(message, back) {
			panic("other bytes came back")
		}
	}
	done <- ops
}

func bothSides(b *schbench.Bench) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go server.AcceptAll(listener, echo)
	var conns [pairs]net.Conn
	for i := range conns {
		if conns[i], err = net.Dial("tcp", listener.Addr().String()); err != nil {
			panic(err)
		}
	}
	for b.Round() {
		results := make(chan int, pairs)
		for i, conn := range conns {
			ops := b.Ops / pairs
			if i < b.Ops%pairs {
				ops++
			}
			go ask(conn, ops, results)
		}
		done := 0
		for range conns {
			done += <-results
		}
		b.Done(done)
	}
	b.Report()
}

func main() {
	b := schbench.New("echo", 50000, "c64", "c1", "c1000", "big", "self")
	if b.Variant == "self" {
		bothSides(b)
	}
	server.Serve(echo)
}
