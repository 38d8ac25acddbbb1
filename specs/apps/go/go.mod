module example.org/go-sample

go 1.24
