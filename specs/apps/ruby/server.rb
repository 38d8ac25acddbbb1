require "bundler/setup"
require "greeting"
require "json"
require "webrick"

$stdout.sync = true
server = WEBrick::HTTPServer.new(BindAddress: "0.0.0.0", Port: ENV.fetch("PORT").to_i, AccessLog: [])
server.mount_proc("/") { |_, response| response.body = Greeting.text }
server.mount_proc("/env") do |_, response|
  response["Content-Type"] = "application/json"
  response.body = ENV.to_h.to_json
end
trap("TERM") { server.shutdown }
server.start
