module files-go

go 1.22
