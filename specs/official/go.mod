module official

go 1.26.2

require code.cloudfoundry.org/cli/v8 v8.18.3
