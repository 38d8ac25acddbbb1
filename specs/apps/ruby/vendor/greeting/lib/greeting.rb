module Greeting
  def self.text
    "Hello from Ruby\n"
  end
end
