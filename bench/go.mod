module schbench

go 1.19
