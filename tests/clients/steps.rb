# Makes the calls of a plan with Ruby's Net::HTTP, as steps.mjs does with a client for Node.
#
#     ruby steps.rb BASE PLAN FOLDER
require "net/http"
require "stringio"

LIMIT = 20

base, plan, folder = ARGV
place = URI(base)
# Uses no proxy, whatever the environment says.
http = Net::HTTP.new(place.host, place.port, nil)
http.use_ssl = place.scheme == "https"
http.open_timeout = http.read_timeout = http.write_timeout = LIMIT
http.continue_timeout = 5
http.start
token = nil
File.readlines(plan, chomp: true, encoding: "UTF-8").each_with_index do |line, number|
  method, target, framing, key, body = line.split("\t", -1)
  request = Net::HTTPGenericRequest.new(method, framing != "none", method != "HEAD", target)
  request["Accept"] = "application/json"
  request["Authorization"] = "Bearer #{token}" if token
  request["Sezzle-Request-Id"] = key if key != "-"
  request["Content-Type"] = "application/json" if framing != "none"
  case framing
  when "chunked"
    request["Transfer-Encoding"] = "chunked"
    request.body_stream = StringIO.new(body)
  when "expect", "length"
    request["Expect"] = "100-continue" if framing == "expect"
    request.body = body
  end
  begin
    got = http.request(request)
    content = got.body.to_s
    token ||= content[/"token": ?"([^"]+)"/, 1]
    File.binwrite("#{folder}/#{number}", content)
    puts "#{got.code}\t#{got["cache-status"]}"
  rescue StandardError => error
    puts "#{error.class}\t"
    warn error.message
    http.start unless http.started?
  end
end
