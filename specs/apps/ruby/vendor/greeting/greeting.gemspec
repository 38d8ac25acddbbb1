Gem::Specification.new do |spec|
  spec.name = "greeting"
  spec.version = "1.0.0"
  spec.summary = "A gem that comes with its app"
  spec.authors = ["the sample"]
  spec.files = ["lib/greeting.rb"]
end
